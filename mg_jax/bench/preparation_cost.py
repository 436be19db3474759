"""What videos like those of the papers' data sets cost to prepare: core-hours and disk."""

import multiprocessing
import pathlib
import shutil
import time
from typing import Any

from data.listing.videos import Action, Video
from data.preparation.cost import estimate
from data.preparation.parts import Part, Stored, write_part
from data.preparation.workers import Tally
from mg_jax.bench.sources import USUAL, Format, make_videos
from mg_jax.machine.progress import say

_SECONDS = 10  # of a video
_VIDEOS = 6
_PER = 1_000  # videos

# Sizes and bit rates of the copies that are in use: Kinetics scaled to a short side of 256, half a
# megabyte for ten seconds; SSv2's WebM files, 19 GB for 220,847 of 3.8 s; Charades' "480p", 13 GB
# for 9,848 of 30 s.
_FORMATS = {
    "Kinetics": Format(USUAL.width, USUAL.height, USUAL.fps, bit_rate=400_000),
    "SSv2": Format(
        427, 240, 12, "libvpx-vp9", ".webm", 185_000, (("deadline", "good"), ("cpu-used", "4"))
    ),
    "Charades": Format(640, 360, 24, bit_rate=350_000),
}
_SETTINGS = [
    Stored(short_side, quality, step)
    for short_side in (256, 128)
    for quality in (90, 75)
    for step in (1, 2)
]


def measure_costs(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Makes and prepares videos in each format with each setting; prints a table."""
    say(_HEADER)
    rows = []
    for name, form in _FORMATS.items():
        paths = make_videos(workdir / name, _VIDEOS, _SECONDS * form.fps, form)
        for stored in _SETTINGS:
            rows.append({"like": name, "format": str(form), **_measure(paths, workdir, stored)})
            say(_line(rows[-1]))
    return rows


def _measure(paths: list[pathlib.Path], workdir: pathlib.Path, stored: Stored) -> dict[str, Any]:
    videos = [Video(path.name, path, (Action(0),)) for path in paths]
    estimated = estimate(videos, stored)
    folder = workdir / "part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    part = Part("train", 0, tuple(videos))
    tally = Tally(multiprocessing.get_context("spawn"))
    begin = time.process_time()
    write_part(part, tally, folder, stored)
    core_s = time.process_time() - begin
    size = part.path(folder).stat().st_size
    shutil.rmtree(folder)
    per = _PER / len(videos)
    return {
        "short_side": stored.short_side,
        "quality": stored.quality,
        "frame_step": stored.frame_step,
        "source_gb": sum(path.stat().st_size for path in paths) * per / 1e9,
        "gb": size * per / 1e9,
        "core_hours": core_s * per / 3_600,
        "estimated_gb": estimated.stored_bytes * _PER / 1e9,
        "estimated_core_hours": estimated.core_s * _PER / 3_600,
    }


_HEADER = (
    f"{'1,000 videos of 10 s':<21} {'side':>4} {'quality':>7} {'step':>4} {'source GB':>9} "
    f"{'GB':>6} {'estimated':>9} {'core-hours':>10} {'estimated':>9}"
)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['like']:<21} {row['short_side']:>4} {row['quality']:>7} {row['frame_step']:>4} "
        f"{row['source_gb']:>9.2f} {row['gb']:>6.2f} {row['estimated_gb']:>9.2f} "
        f"{row['core_hours']:>10.3f} {row['estimated_core_hours']:>9.3f}"
    )
