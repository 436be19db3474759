"""tf.data: positions -> frames -> crops -> batches whose shape follows the schedule.

What an iteration reads is arithmetic (`sampling`), records are read by number, only the blocks
under a crop are decoded (`data/format/crop.py`), and threads write the clips of an iteration into
one array of its grid's shape.
"""

import collections
import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax.sharding import Mesh

from data.format import crop as crop_lib
from data.format.records import DAMAGE, DamagedVideos, DataError
from data.format.video_table import VideoTable
from mg_jax.grid import Grid
from mg_jax.input import sampling
from mg_jax.input.batch_memory import BatchMemory
from mg_jax.input.datasets import Split
from mg_jax.input.sampling import Augmentation, Clips, Views
from mg_jax.machine.cores import usable_cores
from mg_jax.runtime import parallel
from mg_jax.runtime.memory import DEVICE_AHEAD

# Frames, about, of the clips that a thread reads and decodes as one task.
_TASK_FRAMES = 128
# Videos that are tried in place of a damaged one.
_REPLACEMENTS = 16
_CORES = usable_cores()
# Threads that read and decode: while some wait for the disk, others decode.
_WORKERS = 4 * _CORES


def clip_batches(
    split: Split,
    augmentation: Augmentation,
    grids: list[Grid],
    iterations: Iterable[tuple[Grid, int]],
) -> tf.data.Dataset:
    """This host's part of each iteration's batch.

    Args:
      split: the videos and their frames.
      augmentation: what is random.
      grids: the distinct grids of the iterations.
      iterations: the grid and the first position P(i) of each iteration; read once.

    Returns:
      A data set of {clips `B t h h 3` uint8, flip `B` bool, label}, B the host's share; label is
      `B` int32, or `B K` uint8 where videos have any number of them.
    """
    pool = concurrent.futures.ThreadPoolExecutor(_WORKERS)
    # No grid is left for a run that was cut off after its last iteration.
    memory = BatchMemory(max((math.prod(_shape(grid)) for grid in grids), default=0))

    def read(grid: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _read_batch(pool, memory, split, augmentation, grids[grid], int(position))

    def load(grid: tf.Tensor, position: tf.Tensor) -> dict[str, tf.Tensor]:
        label = tf.uint8 if split.multi_label else tf.int32
        batch = tf.numpy_function(read, [grid, position], [tf.uint8, tf.bool, label])
        return dict(zip(("clips", "flip", "label"), batch, strict=True))

    dataset = tf.data.Dataset.from_generator(
        lambda: ((grids.index(grid), position) for grid, position in iterations),
        output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)),
    )
    # Two at a time: while one batch waits for its last clips, threads begin the next.
    return _with_options(dataset.map(load, num_parallel_calls=2).prefetch(1))


def _shape(grid: Grid) -> tuple[int, ...]:
    """The shape `B t h h 3` of this host's part of a batch."""
    return grid.batch // jax.process_count(), grid.frames, grid.size, grid.size, 3


def _read_batch(
    pool: concurrent.futures.Executor,
    memory: BatchMemory,
    split: Split,
    augmentation: Augmentation,
    grid: Grid,
    position: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """This host's clips, flips and labels of the iteration that starts at a position."""
    share, *_ = _shape(grid)
    first = position + jax.process_index() * share
    out_BTHWC = memory.array(_shape(grid))
    clips = read_clips(pool, split, augmentation, grid, first, out_BTHWC)
    return out_BTHWC, clips.flip_B, labels(split, clips)


def read_clips(
    pool: concurrent.futures.Executor,
    split: Split,
    augmentation: Augmentation,
    grid: Grid,
    first: int,
    out_BTHWC: np.ndarray,
) -> Clips:
    """Reads the clips at positions `first`, `first` + 1 ... of the endless sequence.

    Args:
      pool: threads that read.
      split: the videos and their frames.
      augmentation: what is random.
      grid: its frames and size are those of the clips.
      first: position.
      out_BTHWC: where to write them, uint8, not mirrored.

    Returns:
      What was read. Another video takes the place of a damaged one.

    Raises:
      DataError: if the videos that were tried instead are damaged, too.
    """
    clips = sampling.sample_clips(split.videos, grid, augmentation, first, len(out_BTHWC))
    numbers_BT = split.videos.records(clips.rows_B, clips.frames_BT)

    def read(start: int) -> None:
        for b in range(start, min(start + task, len(out_BTHWC))):
            row, out_THWC = int(clips.rows_B[b]), out_BTHWC[b]
            try:
                _read_clip(split, row, numbers_BT[b], clips.boxes_B3[b], out_THWC)
            except DAMAGE as error:
                other = _read_other(split, augmentation, grid, first + b, row, error, out_THWC)
                for field in dataclasses.fields(Clips):
                    getattr(clips, field.name)[b] = getattr(other, field.name)[0]

    task = max(_TASK_FRAMES // grid.frames, 1)
    for _ in pool.map(read, range(0, len(out_BTHWC), task)):
        pass
    return clips


def _read_clip(
    split: Split, row: int, numbers_T: np.ndarray, box_3: np.ndarray, out_THWC: np.ndarray
) -> None:
    jpegs = split.frames.jpegs(numbers_T)
    shape = int(split.videos.height[row]), int(split.videos.width[row])
    crop_lib.crop(out_THWC[None], jpegs, shape, box_3[None])


def labels(split: Split, clips: Clips) -> np.ndarray:
    """The label of each clip, `B` int32, or `B K` uint8 where videos have any number of them."""
    if split.multi_label:
        return split.videos.labels_within(clips.rows_B, clips.frames_BT)
    return split.videos.label(clips.rows_B)


def _read_other(
    split: Split,
    augmentation: Augmentation,
    grid: Grid,
    position: int,
    row: int,
    error: Exception,
    out_THWC: np.ndarray,
) -> Clips:
    """Reads a clip of another video, drawn as the one of the damaged video was, and returns it.

    Which video depends only on which are damaged, so a run that is repeated reads the same.
    """
    for _ in range(_REPLACEMENTS):
        # Its neighbours are stored next to it and may be damaged as well.
        other = (row + 1 + len(split.videos) // 2) % len(split.videos)
        names = split.videos.ids[[row, other]]
        split.damaged.add(row, names[0], error, f"{names[1]} takes its place")
        clip = sampling.clips_of(split.videos, grid, augmentation, position, np.array([other]))
        (numbers_T,) = split.videos.records(clip.rows_B, clip.frames_BT)
        try:
            _read_clip(split, other, numbers_T, clip.boxes_B3[0], out_THWC)
        except DAMAGE as next_error:
            row, error = other, next_error
        else:
            return clip
    split.damaged.fatal = DataError(
        f"video {names[0]} is damaged and so are {_REPLACEMENTS} that were to take its place; "
        "prepare the data set again"
    )
    split.damaged.check()  # if too many are damaged in all, that message says more
    raise split.damaged.fatal


def view_batches(split: Split, views: Views, batch: int) -> tf.data.Dataset:
    """This host's part of each batch of test videos; every video is decoded once.

    Args:
      split: the videos and their frames.
      views: of each video.
      batch: videos over all hosts; their number divides it. The last batch is filled up with
        repetitions of weight 0; so are videos that are damaged.

    Returns:
      A data set of {clips `B V T h h 3` uint8, weight `B` float32}, videos in the split's order.
    """
    share = batch // jax.process_count()
    shape = (len(views), views.frames, views.size, views.size, 3)

    def rows() -> Iterator[int]:
        for start in range(0, len(split.videos), batch):
            first = start + jax.process_index() * share
            yield from range(first, first + share)

    def read(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row = int(row)
        if row >= len(split.videos):
            return np.zeros(shape, np.uint8), np.float32(0)
        try:
            return video_views(split.frames.jpegs, split.videos, row, views), np.float32(1)
        except DAMAGE as error:
            split.damaged.add(row, split.videos.ids[row], error, "it is left out")
            return np.zeros(shape, np.uint8), np.float32(0)

    def load(row: tf.Tensor) -> dict[str, tf.Tensor]:
        clips, weight = tf.numpy_function(read, [row], [tf.uint8, tf.float32])
        return {"clips": tf.ensure_shape(clips, shape), "weight": tf.ensure_shape(weight, [])}

    dataset = tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec([], tf.int64))
    dataset = dataset.map(load, num_parallel_calls=_CORES)
    return _with_options(dataset.batch(share, drop_remainder=True).prefetch(2))


def video_views(
    jpegs: Callable[[np.ndarray], Sequence[bytes | memoryview]],
    videos: VideoTable,
    row: int,
    views: Views,
) -> np.ndarray:
    """All views of a video, crop by crop, `V T h h 3` uint8.

    Args:
      jpegs: gives frames by record number.
      videos: holds the video.
      row: of the video.
      views: of it.
    """
    frames_CT = sampling.view_frames(videos, row, views)
    # A frame that several clips share is decoded once.
    numbers, where = np.unique(
        videos.records(np.full(len(frames_CT), row), frames_CT), return_inverse=True
    )
    shape = int(videos.height[row]), int(videos.width[row])
    size = (views.crops, len(numbers), views.size, views.size, 3)
    crops_NThhC = np.empty(size, np.uint8)
    crop_lib.crop(crops_NThhC, jpegs(numbers), shape, sampling.view_boxes(videos, row, views))
    views_VThhC = crops_NThhC[:, where.reshape(frames_CT.shape)]
    return views_VThhC.reshape(len(views), *views_VThhC.shape[2:])


def _with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Its thread holds up the end of a data set for up to a minute.
    options.autotune.enabled = False
    return dataset.with_options(options)


def host_batches(
    dataset: tf.data.Dataset, damaged: DamagedVideos
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a data set as NumPy arrays.

    Raises:
      DataError: if too many videos are damaged.
    """
    batches = dataset.as_numpy_iterator()
    while True:
        try:
            batch = next(batches, None)
        except tf.errors.OpError:
            # tf.data hides the error that a thread raised; too much damage has its own.
            damaged.check()
            raise
        damaged.check()
        if batch is None:
            return
        yield batch


class DeviceBatches:
    """Iterates over a data set with a few batches on the devices ahead of the one in use.

    Attributes:
      wait_s: upper bound of the seconds that the devices waited for the pipeline; copies to them,
        which overlap with computing, are not counted.
    """

    def __init__(self, dataset: tf.data.Dataset, mesh: Mesh, damaged: DamagedVideos):
        self.wait_s = 0.0
        self._host = host_batches(dataset, damaged)
        self._mesh = mesh
        self._queue = collections.deque()
        self.prefetch()

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        """The next batch.

        Raises:
          DataError: if too many videos are damaged.
        """
        if not self._queue:
            self.prefetch()
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    def prefetch(self, computing: jax.Array | None = None) -> None:
        """Fills the queue; to be called after the step on the batch in use was dispatched.

        Args:
          computing: an output of that step; until it is ready, the devices do not wait.
        """
        start = time.perf_counter()
        while len(self._queue) < DEVICE_AHEAD:
            batch: Any = next(self._host, None)
            if batch is None:
                break
            self._queue.append(parallel.shard(batch, self._mesh))
        if computing is None or computing.is_ready():
            self.wait_s += time.perf_counter() - start
