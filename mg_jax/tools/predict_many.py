"""The classes of many videos, as a table: `--mode=predict --output=FILE`."""

import csv
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mg_jax.errors import UserError, some
from mg_jax.input.datasets import stored
from mg_jax.input.sampling import all_views
from mg_jax.machine.atomic_file import replaced, write_json
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.progress import shown
from mg_jax.tools.checks import TABLES, check_output
from mg_jax.tools.predict import checked, predict, scorer, weights
from mg_jax.tools.raw_videos import RawVideo, find_videos, read_videos
from mg_jax.workdir.video_scores import TOP, top_classes, top_columns


def predict_videos(
    config,
    given: Sequence[pathlib.Path],
    workdir: pathlib.Path | None,
    output: pathlib.Path | None,
) -> str:
    """The best classes of videos: of one in words, of many in a file.

    Args:
      config: of the model.
      given: videos, folders and lists, as `find_videos` takes them.
      workdir: whose best checkpoint to use; without one, the weights of config.init_from.
      output: file to write, `.csv` or `.json`; may be left out for a single video.

    Returns:
      As `predict` for a single video without an output; else what was written and what could not be
      read.

    Raises:
      UserError: if no video, or the weights, settings or output cannot be used.
    """
    paths = find_videos(given)
    if output is None:
        if len(paths) > 1:
            raise UserError(
                f"there are {len(paths):,} videos; --output=FILE.csv or FILE.json says where their "
                "classes go"
            )
        return predict(config, paths[0], workdir)
    check_output(output, TABLES)
    config = checked(config, workdir)
    source, variables, classes = weights(config, workdir)
    classes = classes or [f"class {k}" for k in range(config.model.num_classes)]
    score = scorer(config, variables)
    views, readers = all_views(config), config.run.readers or usable_cores()
    read = read_videos(paths, stored(config), views, readers)
    rows = scored(shown(read, "predicting", "video", len(paths)), score)
    check_any_read([video for video, _ in rows])
    write = _write_csv if output.suffix == ".csv" else _write_json
    write(output, rows, classes)
    return f"{source}\n{account([video for video, _ in rows], output)}"


def scored(
    videos: Iterable[RawVideo], score: Callable[[np.ndarray], np.ndarray]
) -> list[tuple[RawVideo, np.ndarray | None]]:
    """The videos without their views, each with what `score` gives; None for those not read."""
    rows = []
    for video in videos:
        found = None if video.error else score(video.views_VTHWC)
        rows.append((video.without_views(), found))
    return rows


def check_any_read(videos: Sequence[RawVideo]) -> None:
    """Raises UserError if none of the videos was read."""
    if all(video.error for video in videos):
        raise UserError(f"none of {len(videos):,} videos could be read: {some(_unread(videos))}")


def account(videos: Sequence[RawVideo], output: pathlib.Path, content: str = "") -> str:
    """Text: how many videos were written to the output, with what, and which were not read."""
    unread = _unread(videos)
    count = len(videos) - len(unread)
    lines = [f"{output}: {count:,} video{'s' * (count != 1)}{content}"]
    if unread:
        lines.append(f"not read: {len(unread):,} of {len(videos):,}: {some(unread, 10)}")
    if odd := [f"{video.path} ({'; '.join(video.remarks)})" for video in videos if video.remarks]:
        lines.append(f"odd: {len(odd):,}: {some(odd)}")
    return "\n".join(lines)


def _unread(videos: Sequence[RawVideo]) -> list[str]:
    return [f"{video.path} ({video.error})" for video in videos if video.error]


_Rows = Sequence[tuple[RawVideo, np.ndarray | None]]


def _write_csv(path: pathlib.Path, rows: _Rows, classes: list[str]) -> None:
    top = min(TOP, len(classes))
    with (
        replaced(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(["path", *top_columns(top), "frames", "remarks", "error"])
        for video, scores_K in rows:
            best = [("", "")] * top if scores_K is None else top_classes(scores_K, classes)
            cells = [cell for pair in best for cell in pair]
            notes = video.source_frames, "; ".join(video.remarks), video.error
            table.writerow([video.path, *cells, *notes])


def _write_json(path: pathlib.Path, rows: _Rows, classes: list[str]) -> None:
    content = []
    for video, scores_K in rows:
        if scores_K is None:
            content.append({"path": video.path, "error": video.error})
            continue
        best = top_classes(scores_K, classes)
        content.append(
            {
                "path": video.path,
                "classes": [{"class": name, "score": float(score)} for name, score in best],
                "frames": video.source_frames,
                "remarks": list(video.remarks),
            }
        )
    write_json(path, content)
