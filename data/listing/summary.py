"""How a source was understood, on one screen, so that a person can check it."""

import pathlib

from data.listing.checks import class_counts
from data.listing.findings import Findings, grouped, printable
from data.listing.videos import Listing, Video
from mg_jax.errors import some

_MOST_REASONS = 8


def summary(source: object, listing: Listing, several: bool, findings: Findings) -> str:
    """Splits, classes, labels, what is left out, and notices.

    Args:
      source: of the videos.
      listing: of its videos.
      several: whether a video may have several labels.
      findings: notices, and what is left out.
    """
    lines = [f"{source} is understood as:"]
    for split, videos in listing.splits.items():
        lines.append(f"  {split}: {len(videos):,} videos{_origin(split, listing)}")
        if extremes := _extremes(videos, listing.classes):
            lines.append(f"    {extremes}")
    lines.append(f"  classes: {_classes(listing)}")
    lines.append(f"  labels: {_labels(listing, several)}")
    lines += _left_out(source, findings)
    if findings.notices:
        lines.append("  please note:")
        lines += [f"  {line}".replace(f"{source}/", "") for line in grouped(findings.notices)]
    return printable("\n".join(lines))


def _origin(split: str, listing: Listing) -> str:
    return f" of {listing.read_from[split]}" if split in listing.read_from else ""


def _classes(listing: Listing) -> str:
    if not listing.classes:
        read = ", ".join(listing.read_from.values()) or "the source"
        return f"none, since no label of {read} could be read"
    how = f", {listing.classes_from}" if listing.classes_from else ""
    return f"{len(listing.classes):,}{how}: {some(map(repr, listing.classes), 8)}"


def _extremes(videos: list[Video], classes: list[str]) -> str:
    counts = class_counts(videos)
    if not counts:
        return ""
    order = sorted(counts, key=lambda k: (counts[k], k))
    least, most = order[0], order[-1]
    if counts[least] == counts[most]:
        return f"{len(counts):,} classes with {counts[least]:,} videos each"
    return (
        f"{len(counts):,} classes, from {classes[least]!r} with {counts[least]:,} to "
        f"{classes[most]!r} with {counts[most]:,}"
    )


def _labels(listing: Listing, several: bool) -> str:
    if not several:
        return "one to a video (data.multi_label=False)"
    numbers = [len({a.label for a in v.actions}) for vs in listing.splits.values() for v in vs]
    return (
        f"{min(numbers, default=0)} to {max(numbers, default=0)} to a video "
        f"(data.multi_label=True); {numbers.count(0):,} videos have none"
    )


def _left_out(source: object, findings: Findings) -> list[str]:
    lines = ["  left out:" if findings.left_out else "  left out: nothing"]
    reasons = sorted(findings.left_out, key=lambda reason: -len(findings.left_out[reason]))
    for reason in reasons[:_MOST_REASONS]:
        paths = findings.left_out[reason]
        shown = some([_below(path, source) for path in paths], 2)
        lines.append(f"    {len(paths):,} {reason}: {shown}")
    if len(reasons) > _MOST_REASONS:
        count = sum(len(findings.left_out[reason]) for reason in reasons[_MOST_REASONS:])
        lines.append(f"    {count:,} more with {len(reasons) - _MOST_REASONS} other reasons")
    return lines


def _below(path: str, source: object) -> str:
    return str(pathlib.Path(path).relative_to(source)) if path.startswith(f"{source}/") else path
