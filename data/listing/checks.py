"""Checks of a listing that need no decoding."""

import collections

from data.listing.classes import near_duplicates
from data.listing.copies import copies
from data.listing.findings import Findings, printable
from data.listing.lists import CLASS_FILE
from data.listing.states import State
from data.listing.videos import Listing, Video
from mg_jax.errors import some


def check_listing(
    listing: Listing,
    states: dict[str, list[State]],
    train: str,
    evaluation: str,
    several: bool,
    findings: Findings,
) -> None:
    """Adds errors and notices to the findings.

    Args:
      listing: what was listed.
      states: of its videos, by split.
      train: the split to train on.
      evaluation: the split to evaluate on.
      several: whether a video may have several labels.
      findings: of the source.
    """
    for split, videos in listing.splits.items():
        if not videos and not findings.errors:
            findings.error(
                f"split {split!r} of {listing.read_from.get(split, 'the source')} lists no videos; "
                "add some or remove it"
            )
        _check_twice(split, videos, findings)
        for video in videos:
            _check_names(video, findings)
    if not listing.classes and not findings.errors:
        findings.error("no video has a label")
    _check_same_file(listing, states, several, findings)
    _check_copies(listing, states, findings)
    _check_alike(listing, findings)
    _check_classes_of_splits(listing, train, evaluation, findings)


def _check_twice(split: str, videos: list[Video], findings: Findings) -> None:
    first: dict[str, Video] = {}
    for video in videos:
        other = first.setdefault(video.id, video)
        if other is not video:
            lines = f" ({other.where} and {video.where})" if video.where else ""
            findings.error(
                f"split {split!r} lists {printable(video.id)} twice{lines}",
                "list each video once in a split",
            )


def _check_names(video: Video, findings: Findings) -> None:
    try:
        video.id.encode()
        str(video.path).encode()
    except UnicodeEncodeError:
        findings.error(printable(video.path), "names of files must be UTF-8; rename what is not")


def _check_same_file(
    listing: Listing, states: dict[str, list[State]], several: bool, findings: Findings
) -> None:
    """Adds files that are in two splits, or have two names."""
    first: dict[object, tuple[str, Video]] = {}
    for split, videos in listing.splits.items():
        for video, state in zip(videos, states[split], strict=True):
            other_split, other = first.setdefault(state.node or video.path, (split, video))
            if other is video or (split == other_split and other.id == video.id):
                continue
            both = f"{printable(other.found)} and {printable(video.found)}"
            if not several and other.actions != video.actions:
                labels = [listing.classes[v.actions[0].label] for v in (other, video) if v.actions]
                findings.error(
                    f"{both}, as {' and '.join(map(repr, labels))}",
                    "the same video has different labels",
                )
            elif split != other_split:
                findings.notice(
                    both,
                    f"the same video is in {other_split} and {split}: results on {split} say "
                    "little of new videos",
                )
            else:
                findings.notice(both, f"the same video has two names in {split}")


def _check_copies(listing: Listing, states: dict[str, list[State]], findings: Findings) -> None:
    for (other_split, other), (split, video) in copies(listing, states):
        findings.notice(
            f"{printable(other.found)} and {printable(video.found)}",
            f"copies of the same video are in {other_split} and {split}: results on {split} say "
            "little of new videos",
        )


def _check_alike(listing: Listing, findings: Findings) -> None:
    for names in near_duplicates(listing.classes):
        text = " and ".join(
            f"{name!r} ({printable(first.found)})" if (first := _first_of(listing, name)) else name
            for name in names
        )
        if listing.classes_given:
            findings.notice(text, "classes that are written nearly alike")
        else:
            findings.error(
                text,
                "classes that are written nearly alike; write them alike, or if they are different "
                f"ones, list all classes in {CLASS_FILE}",
            )


def _first_of(listing: Listing, name: str) -> Video | None:
    label = listing.classes.index(name)
    for videos in listing.splits.values():
        for video in videos:
            if any(action.label == label for action in video.actions):
                return video
    return None


def class_counts(videos: list[Video]) -> collections.Counter[int]:
    """How many videos each class has."""
    return collections.Counter(k for video in videos for k in {a.label for a in video.actions})


def _check_classes_of_splits(
    listing: Listing, train: str, evaluation: str, findings: Findings
) -> None:
    counts = {
        split: class_counts(listing.splits[split])
        for split in dict.fromkeys((train, evaluation))
        if listing.splits.get(split)
    }
    if (
        not findings.errors
        and len(counts) == 2
        and all(counts.values())
        and not set.intersection(*map(set, counts.values()))
    ):
        shown = [some([repr(listing.classes[k]) for k in sorted(counts[s])], 3) for s in counts]
        add = findings.notice if listing.classes_given else findings.error
        add(f"{train} and {evaluation} have no class in common: {', but '.join(shown)}")
        return
    for split, count in counts.items():
        without = [name for k, name in enumerate(listing.classes) if not count[k]]
        if without:
            findings.notice(
                f"{len(without)} of {len(listing.classes)} classes have no video in {split}: "
                f"{some(without)}"
            )


def check_broken_files(
    listing: Listing, states: dict[str, list[State]], most: float, findings: Findings
) -> None:
    """Adds videos that cannot be read: notices up to a share `most` of all, errors beyond."""
    broken = [
        (video, state.broken)
        for split, videos in listing.splits.items()
        for video, state in zip(videos, states[split], strict=True)
        if state.broken
    ]
    total = sum(map(len, listing.splits.values()))
    too_many = len(broken) > most * total
    add = findings.error if too_many else findings.notice
    kind = f"{len(broken):,} of {total:,} videos cannot be read"
    kind += (
        f", more than the share prepare.max_broken={most:g}. Fix the videos or the list, or set "
        "--config.prepare.max_broken=... higher"
        if too_many
        else " and will be skipped"
    )
    for video, reason in broken:
        add(
            f"{video.where}: {video.path} {reason}" if video.where else f"{video.path} {reason}",
            kind,
        )
