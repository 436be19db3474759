"""Splits off a validation split from videos that have none."""

import collections
import dataclasses
import hashlib
import re

from data.findings import Findings
from data.videos import Listing, Video


def split_off(
    listing: Listing, train: str, evaluation: str, share: float, pattern: str, findings: Findings
) -> Listing:
    """The listing with about a share of the training videos in a split of their own.

    Which videos these are follows from a hash of each one's id, or of its group's name where it has
    one, so it stays as it is when videos are added. A class of two videos or groups and more has
    some on both sides.

    Args:
      listing: has the split `train`.
      train: the split that is divided.
      evaluation: the split that comes to be.
      share: of the videos, more than 0 and less than 1.
      pattern: a regular expression whose first group names a video's group by its id; empty: the
        lists say, or each video is on its own.
      findings: what a person should know is added.
    """
    videos = listing.splits[train]
    groups = collections.defaultdict(list)
    for video in videos:
        groups[_group(video, pattern)].append(video)
    if pattern:
        alone = [video.id for video in videos if not re.search(pattern, video.id)]
        if alone:
            findings.notice(
                f"prepare.group_pattern={pattern!r} fits {len(videos) - len(alone):,} of "
                f"{len(videos):,} paths; the others, such as {alone[0]}, are on their own"
            )
    chosen = {name for name in groups if _position(name) < share}
    _put_classes_on_both_sides(groups, chosen)
    sides = {train: [], evaluation: []}
    for video in videos:
        sides[evaluation if _group(video, pattern) in chosen else train].append(video)
    origin = listing.read_from.get(train, train)
    grouped = f", {len(groups):,} groups kept together" if len(groups) < len(videos) else ""
    read_from = {
        **listing.read_from,
        train: f"{origin}, all but a share of {share:g}{grouped}",
        evaluation: f"{origin}, a share of {share:g} (prepare.validation_share) by a hash of names",
    }
    return dataclasses.replace(listing, splits={**listing.splits, **sides}, read_from=read_from)


def _group(video: Video, pattern: str) -> str:
    if pattern:
        found = re.search(pattern, video.id)
        return f"group {found[1]}" if found and found[1] is not None else video.id
    return f"group {video.group}" if video.group else video.id


def _position(name: str) -> float:
    """A number in 0 ... 1 that follows from the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) / 256**7


def _put_classes_on_both_sides(groups: dict[str, list[Video]], chosen: set[str]) -> None:
    """Moves the group that is nearest to the other side, where a class has none there."""
    members = collections.defaultdict(set)
    for name, videos in groups.items():
        for video in videos:
            for action in video.actions:
                members[action.label].add(name)
    for label in sorted(members):
        names = members[label]
        if len(names) < 2:
            continue
        if not names & chosen:
            chosen.add(min(names, key=_position))
        elif names <= chosen:
            # Groups with other classes as well may be needed where they are.
            chosen.discard(max(names, key=_position))
