"""Whether the videos of a listing exist, and what shows that one has changed."""

import concurrent.futures
import dataclasses
import os
import stat

from data.listing.image_folder import image_entries
from data.listing.videos import Listing, Video

THREADS = 16  # network file systems answer many questions at once


@dataclasses.dataclass(frozen=True)
class State:
    """What the file system says of a video, which is not read.

    Attributes:
      size: bytes of a file, or of all images of a folder.
      modified: time of the last change in nanoseconds, also of any image of a folder.
      node: device and inode: equal for names of the same file.
      broken: why it cannot be read; empty if it can.
    """

    size: int
    modified: int
    node: tuple[int, int] | None
    broken: str = ""


def states_of(listing: Listing) -> dict[str, list[State]]:
    """The states of all videos, by split."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return {
            split: list(pool.map(_state_of, videos)) for split, videos in listing.splits.items()
        }


def _state_of(video: Video) -> State:
    try:
        found = os.stat(video.path)
        node = (found.st_dev, found.st_ino)
        if stat.S_ISDIR(found.st_mode):
            images = [entry.stat() for entry in image_entries(video.path)]
            newest = max(image.st_mtime_ns for image in [found, *images])
            broken = "" if images else "is a folder without images"
            return State(sum(image.st_size for image in images), newest, node, broken)
    except FileNotFoundError:
        return State(0, 0, None, "does not exist")
    except (OSError, ValueError) as error:
        return State(0, 0, None, getattr(error, "strerror", None) or str(error))
    broken = ""
    if stat.S_ISREG(found.st_mode) and not found.st_size:
        broken = "is empty, 0 bytes"
    elif not os.access(video.path, os.R_OK):
        broken = "cannot be read: permission denied"
    return State(found.st_size, found.st_mtime_ns, node, broken)
