"""Finds files of equal content in two splits."""

import collections
import concurrent.futures
import hashlib
import pathlib

from data.listing.image_folder import image_entries
from data.listing.states import THREADS, State
from data.listing.videos import Listing, Video

_BYTES = 64 * 1024  # compared at the beginning and at the end


def copies(
    listing: Listing, states: dict[str, list[State]]
) -> list[tuple[tuple[str, Video], tuple[str, Video]]]:
    """Pairs of videos, with their splits, that are most likely copies of each other.

    Only videos of equal size are read, and of those only the beginning and the end; of a folder of
    images, its first and last image. Two names of the same file are not copies.

    Args:
      listing: the videos.
      states: of the videos, by split.
    """
    of_size = collections.defaultdict(list)
    for split, videos in listing.splits.items():
        for video, state in zip(videos, states[split], strict=True):
            if state.size and not state.broken:
                of_size[state.size].append((split, video, state))
    compared = [
        found
        for alike in of_size.values()
        if len({split for split, *_ in alike}) > 1
        for found in alike
    ]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        contents = pool.map(lambda found: (found[2].size, _content(found[1].path)), compared)
    first = {}
    pairs = []
    for (split, video, state), content in zip(compared, contents, strict=True):
        other_split, other, node = first.setdefault(content, (split, video, state.node))
        if split != other_split and state.node != node:
            pairs.append(((other_split, other), (split, video)))
    return pairs


def _content(path: pathlib.Path) -> str:
    """A hash of a video's first and last bytes; its path, which is unique, if unreadable."""
    try:
        paths = [path, path]
        if path.is_dir():
            images = sorted(entry.path for entry in image_entries(path))
            paths = [images[0], images[-1]]
        digest = hashlib.sha256()
        for one, at_end in zip(paths, (False, True), strict=True):
            with open(one, "rb") as file:
                if at_end:
                    file.seek(max(0, file.seek(0, 2) - _BYTES))
                digest.update(file.read(_BYTES))
        return digest.hexdigest()
    except OSError:
        return str(path)
