"""tf.data: positions -> batches whose shape follows the schedule -> devices.

What an iteration reads is arithmetic (`sampling`). Reader processes fill the memory of a batch, a
bucket as large as its grid's, each clip in its place (`readers`, `clips`).
"""

import collections
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax.sharding import Mesh

from data.format.records import DamagedVideos
from mg_jax.grid import Grid
from mg_jax.input.clips import ClipSource, ViewSource
from mg_jax.input.datasets import Split
from mg_jax.input.readers import Stream
from mg_jax.input.sampling import Augmentation, Views
from mg_jax.input.shared_memory import arrays_in, size_of
from mg_jax.runtime import parallel
from mg_jax.runtime.memory import DEVICE_AHEAD

# Bytes of test videos that are read at a time; a batch of all views alone may have gigabytes.
_VIEW_BYTES = 1 << 30


def clip_batches(
    split: Split,
    augmentation: Augmentation,
    grids: list[Grid],
    iterations: Iterable[tuple[Grid, int]],
    *,
    positions: bool = False,
) -> tf.data.Dataset:
    """This host's part of each iteration's batch.

    Args:
      split: the videos and their frames.
      augmentation: what is random.
      grids: the distinct grids of the iterations.
      iterations: the grid and the first position P(i) of each iteration; read once.
      positions: add the position of each clip.

    Returns:
      A data set of {clips `B t h h 3` uint8, flip `B` bool, label}, B the host's share; label is
      `B` int32, or `B K` uint8 where videos have any number of them. With `positions` also position
      `B` uint32, modulo 2^32.
    """
    shares = [grid.batch // jax.process_count() for grid in grids]
    stream = _clips(split, augmentation, grids, shares)

    def read(grid: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, ...]:
        share = shares[grid]
        first = int(position) + jax.process_index() * share
        batch = _batch_or_nothing(stream, split.damaged, int(grid), first, share)
        position_B = (first + np.arange(len(batch["label"]))).astype(np.uint32)
        return batch["clips"], batch["flip_B"], batch["label"], position_B

    def load(grid: tf.Tensor, position: tf.Tensor) -> dict[str, tf.Tensor]:
        label = tf.uint8 if split.multi_label else tf.int32
        batch = tf.numpy_function(read, [grid, position], [tf.uint8, tf.bool, label, tf.uint32])
        batch = dict(zip(("clips", "flip", "label", "position"), batch, strict=True))
        if not positions:
            del batch["position"]
        return batch

    dataset = tf.data.Dataset.from_generator(
        lambda: ((grids.index(grid), position) for grid, position in iterations),
        output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)),
    )
    # Two at a time: readers go on to the next batch where one waits for its last clips.
    return _with_options(dataset.map(load, num_parallel_calls=2).prefetch(1))


def _batch_or_nothing(
    stream: Stream, damaged: DamagedVideos, shape: int, first: int, count: int
) -> dict[str, np.ndarray]:
    """As `Stream.read`, but instead of raising an error it keeps it in `damaged.fatal`.

    The batch is then empty. tf.data would replace an error by one of its own and print a lot.
    """
    try:
        return stream.read(shape, first, count)
    except Exception as error:
        damaged.fatal = error
        return arrays_in(np.empty(0, np.uint8), stream.source.fields(shape, 0))


def read_clips(
    split: Split, augmentation: Augmentation, grid: Grid, first: int, count: int
) -> dict[str, np.ndarray]:
    """The clips at positions `first`, `first` + 1 ... of the endless sequence.

    Returns:
      The arrays of `ClipSource.fields`; clips are not mirrored.

    Raises:
      DataError: if a video is damaged and no other can take its place.
    """
    return _clips(split, augmentation, [grid], [count]).read(0, first, count)


def _clips(
    split: Split, augmentation: Augmentation, grids: list[Grid], counts: list[int]
) -> Stream:
    """Batches of some grids, so many clips of each."""
    videos = split.videos, split.frames, split.multi_label
    source = ClipSource(*videos, augmentation, tuple(grids), split.mirrored)
    sizes = [size_of(source.fields(i, count)) for i, count in enumerate(counts)]
    # There is no grid where a run was cut off after its last iteration.
    return split.readers.stream(source, max(sizes, default=0), split.damaged)


def view_batches(split: Split, views: Views, batch: int) -> tf.data.Dataset:
    """This host's part of each batch of test videos; every video is decoded once.

    Args:
      split: the videos and their frames.
      views: of each video.
      batch: videos over all hosts; their number divides it. The last batch is filled up with
        black ones of weight 0; so are videos that are damaged.

    Returns:
      A data set of {clips `B V T h h 3` uint8, weight `B` float32}, videos in the split's order.
    """
    share = batch // jax.process_count()
    source = ViewSource(split.videos, split.frames, views)
    size = size_of(source.fields(0, share))
    stream = split.readers.stream(source, size, split.damaged)

    def read(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = int(first) + jax.process_index() * share
        clips = _batch_or_nothing(stream, split.damaged, 0, first, share)["clips"]
        rows = range(first, first + len(clips))
        bad = split.damaged.rows
        whole_B = np.array([row < len(split.videos) and row not in bad for row in rows], bool)
        clips[~whole_B] = 0
        return clips, whole_B.astype(np.float32)

    def load(first: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.numpy_function(read, [first], [tf.uint8, tf.float32])
        return dict(zip(("clips", "weight"), batch, strict=True))

    dataset = tf.data.Dataset.range(0, len(split.videos), batch)
    # As many at a time as keep readers busy, but no more than fit, or one.
    readers = split.readers.count
    wanted = 1 + -(-readers // len(source.tasks(0, share, readers)))
    at_once = max(min(_VIEW_BYTES // size, wanted), 1)
    return _with_options(dataset.map(load, num_parallel_calls=at_once))


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
      ReaderError: if a reader has ended.
    """
    for batch in dataset.as_numpy_iterator():
        damaged.check()
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
