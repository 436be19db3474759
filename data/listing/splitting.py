"""Splits a validation split off where a source has none."""

import collections
import dataclasses
import hashlib
import random
import re

from data.listing.findings import Findings
from data.listing.videos import Listing, Video

_MOVES = 5_000  # tried at most, to have every class on both sides
_UNLABELLED = -1


def split_off(
    listing: Listing, train: str, evaluation: str, share: float, pattern: str, findings: Findings
) -> Listing:
    """The listing with a share of the training videos of each class in a split of their own.

    Of n videos of a class, or n groups where they have groups, `share * n` are split off, rounded,
    at least one and at most n - 1. They are the first in the order of a hash of their ids or
    groups' names, so few change sides when videos are added. Videos and groups of several classes
    count for each of them, so a class may get more than its share because another needs it.

    Args:
      listing: has the split `train`.
      train: the split that is divided.
      evaluation: the split that is made.
      share: of the videos, more than 0 and less than 1.
      pattern: a regular expression whose first (...) finds a video's group in its id; if empty,
        groups are those of the lists, and a video without one is its own group.
      findings: errors and notices are added.
    """
    videos = listing.splits[train]
    groups = collections.defaultdict(list)
    for video in videos:
        groups[_group(video, pattern)].append(video)
    if pattern:
        alone = [video.id for video in videos if not re.search(pattern, video.id)]
        if len(alone) == len(videos):
            findings.error(
                f"prepare.group_pattern={pattern!r} matches none of {len(videos):,} paths, such as "
                f"{alone[0]}; its (...) must find the name of a group in them"
            )
        elif alone:
            findings.notice(
                f"prepare.group_pattern={pattern!r} matches {len(videos) - len(alone):,} of "
                f"{len(videos):,} paths; each of the others, such as {alone[0]}, is its own group"
            )
    chosen = _choose(groups, share, listing.classes, findings)
    sides = {train: [], evaluation: []}
    for video in videos:
        sides[evaluation if _group(video, pattern) in chosen else train].append(video)
    origin = listing.read_from.get(train, train)
    if not chosen:
        findings.error(
            f"prepare.validation_share={share:g} leaves no video of {origin} for {evaluation!r}: "
            f"no class has two videos, or two groups, to be on both sides ({len(videos):,} videos "
            f"in {len(groups):,} groups)",
            "add videos, make smaller groups, or give lists of both splits",
        )
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
    """A number in 0 ... 1 that depends on the name alone, which need not be UTF-8."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7]) / 256**7


def _choose(
    groups: dict[str, list[Video]], share: float, classes: list[str], findings: Findings
) -> set[str]:
    """Names of the groups that are split off."""
    labels = {
        name: {action.label for video in videos for action in video.actions} or {_UNLABELLED}
        for name, videos in groups.items()
    }
    members = collections.defaultdict(list)
    for name in sorted(groups, key=_position):
        for label in labels[name]:
            members[label].append(name)
    wanted = {
        label: min(len(names) - 1, max(1, round(share * len(names))))
        for label, names in members.items()
    }
    sides = _Sides(labels, members)
    # Small classes have the least choice.
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        names = [name for name in members[label] if name not in sides.chosen]
        for name in names[: max(0, wanted[label] - sides.count[label])]:
            sides.move(name)
    # Groups chosen for later classes may make earlier choices needless.
    for name in sorted(sides.chosen, key=_position, reverse=True):
        if all(sides.count[label] > wanted[label] for label in labels[name]):
            sides.move(name)
    for label in _put_on_both_sides(sides):
        name = "videos without a label" if label == _UNLABELLED else repr(classes[label])
        findings.notice(
            f"{name} ({len(members[label]):,} groups)",
            "classes that prepare.validation_share leaves in one split only, since each of their "
            "videos or groups that could move has another class, which would then be in one only",
        )
    return sides.chosen


class _Sides:
    """Which groups are split off, and how many of each class.

    Attributes:
      labels: of the classes, by group.
      members: groups, by label.
      chosen: groups that are split off.
      count: of the chosen groups, by label.
      one_sided: labels of two groups and more that are all on one side.
    """

    def __init__(self, labels: dict[str, set[int]], members: dict[int, list[str]]):
        self.labels, self.members = labels, members
        self.chosen: set[str] = set()
        self.count = collections.Counter()
        self.one_sided = {label for label, names in members.items() if len(names) > 1}

    def move(self, name: str) -> None:
        """Moves a group to the other side."""
        step = -1 if name in self.chosen else 1
        self.chosen ^= {name}
        for label in self.labels[name]:
            self.count[label] += step
            total = len(self.members[label])
            if total > 1 and self.count[label] in (0, total):
                self.one_sided.add(label)
            else:
                self.one_sided.discard(label)

    def losses(self, name: str) -> int:
        """How many classes would lose a side if this group moved."""
        return sum(
            len(self.members[label]) > 1 and self._beside(name, label) == 1
            for label in self.labels[name]
        )

    def _beside(self, name: str, label: int) -> int:
        """How many groups of a class are on the side of this one."""
        count = self.count[label]
        return count if name in self.chosen else len(self.members[label]) - count


def _put_on_both_sides(sides: _Sides) -> list[int]:
    """Moves groups until all classes are on both sides; returns those that are still on one.

    The search is WalkSAT's: of a class on one side a group moves, mostly the one for which the
    fewest other classes lose a side, sometimes any.
    """
    rng = random.Random(0)
    best, fewest = set(sides.chosen), set(sides.one_sided)
    for _ in range(_MOVES):
        if not fewest:
            break
        names = sides.members[rng.choice(sorted(sides.one_sided))]
        losses = [sides.losses(name) for name in names]
        least = losses.index(min(losses))
        sides.move(names[least] if not losses[least] or rng.random() < 0.7 else rng.choice(names))
        if len(sides.one_sided) < len(fewest):
            best, fewest = set(sides.chosen), set(sides.one_sided)
    for name in sorted(sides.chosen ^ best):
        sides.move(name)
    return sorted(fewest)
