"""Videos as people have them, files, folders and lists of them, read by several processes.

Nothing here needs JAX or TensorFlow: processes that read start without them.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from data.format.video_table import Actions, VideoTable
from data.listing.class_folders import class_folder
from data.listing.findings import Findings, printable
from data.listing.list_files import read_lines, read_rows
from data.preparation.parts import Stored
from data.preparation.video_frames import Frames, VideoError, read_frames
from data.preparation.workers import end_with_parent
from mg_jax.errors import UserError
from mg_jax.input.clips import read_views
from mg_jax.input.sampling import Views, view_frames

LISTS = (".txt", ".csv")
# First cells of a list that are the head of a column and no path.
_HEADS = ("path", "video", "file", "filename")
# Videos that a process has read or reads ahead of the one that is waited for.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class RawVideo:
    """A video that was read, or why it was not.

    Attributes:
      path: as it was given or found.
      views_VTHWC: its views, uint8; None if it could not be read.
      frames_CT: source frames of its clips.
      source_frames: how many it has.
      remarks: what is odd about it.
      error: why it could not be read; empty if it was.
    """

    path: str
    views_VTHWC: np.ndarray | None = None
    frames_CT: np.ndarray | None = None
    source_frames: int = 0
    remarks: tuple[str, ...] = ()
    error: str = ""

    def without_views(self) -> "RawVideo":
        """All but the pixels, of which memory would not hold those of many videos."""
        return dataclasses.replace(self, views_VTHWC=None)


def find_videos(given: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The videos that paths stand for, each once.

    Args:
      given: videos; folders, searched for videos with all their sub-folders; lists, `.txt` with a
        path on each line or `.csv` with the paths in its first column, relative to the list.

    Raises:
      UserError: for a list that cannot be read, or where nothing is found.
    """
    found: dict[pathlib.Path, None] = {}
    for path in given:
        if path.is_dir():
            found |= dict.fromkeys(_in_folder(path))
        elif path.suffix.lower() in LISTS:
            found |= dict.fromkeys(_listed(path))
        else:
            found[path] = None
    if not found:
        raise UserError(f"there are no videos in {', '.join(map(printable, given))}")
    return list(found)


def _in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    findings = Findings()
    videos = class_folder(folder, findings).videos
    if findings.errors:
        raise UserError("; ".join(text for texts in findings.errors.values() for text in texts))
    # A folder of images is a video itself.
    is_video = not videos and any(findings.left_out.values())
    return [folder] if is_video else videos


def _listed(path: pathlib.Path) -> list[pathlib.Path]:
    videos = [path.parent / name for name in _in_list(path)]
    if videos and not any(video.exists() for video in videos):
        raise UserError(
            f"--video={path} is read as a list of paths, and none of them is there, the first "
            f"{videos[0]}; relative paths in it are taken from the list's own folder"
        )
    return videos


def _in_list(path: pathlib.Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        return read_lines(path)
    names = [row[0].strip() for _, row in read_rows(path, ",")]
    has_head = bool(names) and names[0].lower() in _HEADS
    return [name for name in names[has_head:] if name]


def read_videos(
    paths: Sequence[pathlib.Path], how: Stored, views: Views, processes: int
) -> Iterator[RawVideo]:
    """The videos in their order, with their views as a prepared data set would give them.

    Args:
      paths: of the videos.
      how: frames would be stored.
      views: of each video.
      processes: that read; for one video none is started.

    Raises:
      UserError: if a process ends before its work.
    """
    processes = min(processes, len(paths))
    if processes <= 1:
        yield from (read_video(path, how, views) for path in paths)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes, context, initializer=end_with_parent
    ) as pool:
        waiting = collections.deque()
        try:
            for path in paths:
                waiting.append((path, pool.submit(read_video, path, how, views)))
                if len(waiting) > _AHEAD * processes:
                    yield waiting.popleft()[1].result()
            while waiting:
                yield waiting.popleft()[1].result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a process that reads videos has ended, perhaps since memory ran out, which fewer "
                "--config.run.readers would avoid, or over one of these: "
                + ", ".join(printable(path) for path, _ in waiting)
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_video(path: pathlib.Path, how: Stored, views: Views) -> RawVideo:
    """One video; whatever is wrong with it is its `error`."""
    name = printable(path)
    try:
        frames = read_frames(path, how.short_side, how.quality, how.frame_step)
    except (VideoError, OSError) as error:
        return RawVideo(name, error=printable(error))
    table = _table(frames, how.frame_step)
    shape = (len(views), views.frames, views.size, views.size, 3)
    views_VTHWC = np.empty(shape, np.uint8)
    with contextlib.closing(frames.jpegs) as jpegs:
        read_views(views_VTHWC, lambda numbers: [jpegs[n] for n in numbers], table, 0, views)
    frames_CT = view_frames(table, 0, views)
    return RawVideo(name, views_VTHWC, frames_CT, frames.source_frames, frames.remarks)


def _table(frames: Frames, frame_step: int) -> VideoTable:
    """The one video as a split."""
    none = np.array([], np.int64)
    return VideoTable(
        ids=np.array(["video"]),
        first_frame=np.array([0]),
        source_frames=np.array([frames.source_frames]),
        height=np.array([frames.height]),
        width=np.array([frames.width]),
        actions=Actions(none, none, none, none),
        classes=0,
        frame_step=frame_step,
    )
