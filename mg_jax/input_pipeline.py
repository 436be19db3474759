"""tf.data: positions -> frames -> crops -> batches whose shape follows the schedule.

Requests for clips come from arithmetic (`sampling`), records are read by number, only the crop of
each frame is decoded, and clips gather in one bucket per grid, each as large as that grid's batch.
"""

import collections
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from array_record.python.array_record_data_source import ArrayRecordDataSource
from jax.sharding import Mesh

from mg_jax import parallel, sampling
from mg_jax.grid import Grid
from mg_jax.sampling import Augmentation, VideoTable, Views

# Frames that one call into Python reads.
_READ_FRAMES = 128
# Integers that describe a clip; packed, since each component of an element costs time of its own.
_NUMBERS = ("grid", "size", "label", "flip", "top", "left", "height", "width")
# Batches on the device ahead of the one that trains.
_DEVICE_AHEAD = 2
# Threads of each parallel stage.
_WORKERS = len(os.sched_getaffinity(0))


def clip_batches(
    videos: VideoTable,
    frames: ArrayRecordDataSource,
    augmentation: Augmentation,
    grids: list[Grid],
    iterations: Iterable[tuple[Grid, int]],
) -> tf.data.Dataset:
    """This host's part of each iteration's batch.

    Args:
      videos: of the split.
      frames: records of the split's frames.
      augmentation: what is random.
      grids: the distinct grids of the iterations, a bucket each.
      iterations: the grid and the first position P(i) of each iteration; read once.

    Returns:
      A data set of {clips `B t h h 3` uint8, flip `B` bool, label `B` int32}, B the host's share.
    """
    share = tf.constant([grid.batch // jax.process_count() for grid in grids], tf.int64)
    dataset = tf.data.Dataset.from_generator(
        lambda: _requests(videos, augmentation, iterations, grids),
        output_signature={
            "numbers": tf.TensorSpec([None, None, len(_NUMBERS)], tf.int64),
            "frames": tf.TensorSpec([None, None, None], tf.int64),
            "resampling": tf.TensorSpec([None, None, 3], tf.float32),
        },
    )
    dataset = dataset.unbatch()
    dataset = dataset.map(lambda chunk: _read(chunk, frames), num_parallel_calls=_WORKERS)
    dataset = dataset.unbatch()
    dataset = dataset.map(_decode_request, num_parallel_calls=_WORKERS)
    # The clips of an iteration come one after the other and fill a bucket exactly.
    dataset = dataset.group_by_window(
        key_func=lambda grid, _: grid,
        reduce_func=lambda grid, clips: clips.map(lambda _, clip: clip).batch(share[grid]),
        window_size_func=lambda grid: share[grid],
    )
    return _with_options(dataset.prefetch(2))


def _requests(
    videos: VideoTable,
    augmentation: Augmentation,
    iterations: Iterable[tuple[Grid, int]],
    grids: list[Grid],
) -> Iterator[dict[str, np.ndarray]]:
    """What this host reads in each iteration, cut into chunks of about _READ_FRAMES frames."""
    for grid, position in iterations:
        share = grid.batch // jax.process_count()
        first = position + jax.process_index() * share
        clips = sampling.sample_clips(videos, grid, augmentation, first, share)
        windows_B4 = sampling.decode_windows(videos, clips.rows_B, clips.boxes_B3)
        numbers = [
            np.full(share, grids.index(grid)),
            np.full(share, grid.size),
            videos.label[clips.rows_B],
            clips.flip_B,
            *windows_B4.T,
        ]
        request = {
            "numbers": np.stack(numbers, -1).astype(np.int64),
            "frames": clips.frames_BT,
            "resampling": sampling.resamplings(clips.boxes_B3, windows_B4, grid.size),
        }
        chunk = _chunk_size(share, grid.frames)
        yield {name: x.reshape(-1, chunk, *x.shape[1:]) for name, x in request.items()}


def _chunk_size(clips: int, frames: int) -> int:
    """The largest divisor of `clips` that asks for at most _READ_FRAMES frames."""
    most = max(1, _READ_FRAMES // frames)
    return max(size for size in range(1, most + 1) if clips % size == 0)


def _read(request: dict[str, tf.Tensor], frames: ArrayRecordDataSource) -> dict[str, tf.Tensor]:
    """Replaces record numbers by JPEGs, of one clip or of a chunk of clips."""

    def read(numbers: np.ndarray) -> np.ndarray:
        return np.array(frames.__getitems__(numbers.ravel().tolist()), object)

    numbers = request.pop("frames")
    records = tf.numpy_function(read, [numbers], tf.string, stateful=False)
    records = tf.reshape(records, [tf.size(numbers)])
    parsed = tf.io.parse_example(records, {"jpeg": tf.io.FixedLenFeature([], tf.string)})
    return {**request, "jpegs": tf.reshape(parsed["jpeg"], tf.shape(numbers))}


def _decode_request(request: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    numbers = tf.cast(request["numbers"], tf.int32)
    size = numbers[_NUMBERS.index("size")]
    frames_THWC = decode(request["jpegs"], numbers[-4:])
    clip = {
        "clips": resample(frames_THWC, request["resampling"], size),
        "flip": numbers[_NUMBERS.index("flip")] > 0,
        "label": numbers[_NUMBERS.index("label")],
    }
    return request["numbers"][_NUMBERS.index("grid")], clip


def decode(jpegs_T: tf.Tensor, window_4: tf.Tensor) -> tf.Tensor:
    """Decodes one window (top, left, height, width) of each frame, `T H W 3` uint8."""
    return tf.map_fn(
        # The default, INTEGER_FAST, is off by up to two levels and no faster.
        lambda jpeg: tf.io.decode_and_crop_jpeg(
            jpeg, window_4, channels=3, dct_method="INTEGER_ACCURATE"
        ),
        jpegs_T,
        fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )


def resample(frames_THWC: tf.Tensor, resampling_3: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The bilinear crop of `size` x `size` pixels, `T h h 3` uint8; see `sampling.resamplings`."""
    scale = resampling_3[0]
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=frames_THWC,
        size=tf.stack([size, size]),
        scale=tf.stack([scale, scale]),
        translation=resampling_3[1:],
        kernel_type="triangle",
        antialias=False,
    )
    # Interpolation stays within 0 ... 255.
    return tf.cast(resampled + 0.5, tf.uint8)


def view_batches(
    videos: VideoTable, frames: ArrayRecordDataSource, views: Views, batch: int
) -> tf.data.Dataset:
    """This host's part of each batch of test videos; every video is decoded once.

    Args:
      videos: of the split.
      frames: records of the split's frames.
      views: of each video.
      batch: videos over all hosts; their number divides it. The last batch is filled up with
        repetitions of weight 0.

    Returns:
      A data set of {clips `B V T h h 3` uint8, label `B` int32, weight `B` float32}.
    """
    share = batch // jax.process_count()
    dataset = tf.data.Dataset.from_generator(
        lambda: _view_requests(videos, views, batch, share),
        output_signature={
            "frames": tf.TensorSpec([None], tf.int64),
            "where": tf.TensorSpec([views.clips, views.frames], tf.int32),
            "window": tf.TensorSpec([4], tf.int32),
            "resamplings": tf.TensorSpec([views.crops, 3], tf.float32),
            "label": tf.TensorSpec([], tf.int32),
            "weight": tf.TensorSpec([], tf.float32),
        },
    )
    dataset = dataset.map(lambda video: _read(video, frames), num_parallel_calls=_WORKERS)
    dataset = dataset.map(
        lambda video: _decode_views(video, views.size), num_parallel_calls=_WORKERS
    )
    return _with_options(dataset.batch(share, drop_remainder=True).prefetch(2))


def _view_requests(
    videos: VideoTable, views: Views, batch: int, share: int
) -> Iterator[dict[str, np.ndarray]]:
    """What this host reads of each test video: every frame once, however many clips share it."""
    for start in range(0, len(videos), batch):
        first = start + jax.process_index() * share
        for row in range(first, first + share):
            real, row = row < len(videos), min(row, len(videos) - 1)
            wanted = sampling.view_frames(videos, row, views)
            numbers, where = np.unique(wanted, return_inverse=True)
            boxes_N3 = sampling.view_boxes(videos, row, views)
            windows_N4 = sampling.decode_windows(videos, np.full(views.crops, row), boxes_N3)
            window_4 = sampling.common_window(windows_N4)
            yield {
                "frames": numbers,
                "where": where.reshape(wanted.shape).astype(np.int32),
                "window": window_4.astype(np.int32),
                "resamplings": sampling.resamplings(boxes_N3, window_4[None], views.size),
                "label": videos.label[row],
                "weight": np.float32(real),
            }


def video_views(jpegs: list[bytes], videos: VideoTable, views: Views) -> np.ndarray:
    """All views of one video that is not prepared, `V T h h 3` uint8.

    Args:
      jpegs: its frames.
      videos: the video as a table of one row.
      views: of it.
    """
    (request,) = _view_requests(videos, views, batch=1, share=1)
    numbers = request.pop("frames")
    request["jpegs"] = tf.constant([jpegs[number] for number in numbers])
    return _decode_views(request, views.size)["clips"].numpy()


def _decode_views(video: dict[str, tf.Tensor], size: int) -> dict[str, tf.Tensor]:
    frames_THWC = decode(video["jpegs"], video["window"])
    views = [
        tf.gather(resample(frames_THWC, resampling_3, size), video["where"])
        for resampling_3 in tf.unstack(video["resamplings"])
    ]
    return {"clips": tf.concat(views, 0), "label": video["label"], "weight": video["weight"]}


def _with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Its thread holds up the end of a data set for up to a minute.
    options.autotune.enabled = False
    return dataset.with_options(options)


class DeviceBatches:
    """Iterates over a data set with a few batches on the devices ahead of the one in use.

    Attributes:
      wait_s: seconds that `next` waited for the input pipeline.
    """

    def __init__(self, dataset: tf.data.Dataset, mesh: Mesh):
        self.wait_s = 0.0
        self._host = dataset.as_numpy_iterator()
        self._mesh = mesh
        self._queue = collections.deque()
        self.prefetch()

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        if not self._queue:
            self.prefetch()
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    def prefetch(self) -> None:
        """Fills up; to be called when the batch in use has been handed to the device."""
        start = time.perf_counter()
        while len(self._queue) < _DEVICE_AHEAD:
            batch: Any = next(self._host, None)
            if batch is None:
                break
            self._queue.append(parallel.shard(batch, self._mesh))
        self.wait_s += time.perf_counter() - start
