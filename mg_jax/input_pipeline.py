"""tf.data: positions -> frames -> crops -> batches whose shape follows the schedule.

Requests for clips come from arithmetic (`sampling`), records are read by number, only the crop of
each frame is decoded, and clips gather in one bucket per grid, each as large as that grid's batch.
"""

import collections
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
from mg_jax.sampling import Augmentation, VideoTable

# Frames that one call into Python reads.
_READ_FRAMES = 128
# Batches on the device ahead of the one that trains.
_DEVICE_AHEAD = 2


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
            "grid": tf.TensorSpec([None, None], tf.int64),
            "size": tf.TensorSpec([None, None], tf.int32),
            "frames": tf.TensorSpec([None, None, None], tf.int64),
            "box": tf.TensorSpec([None, None, 3], tf.float32),
            "flip": tf.TensorSpec([None, None], tf.bool),
            "label": tf.TensorSpec([None, None], tf.int32),
        },
    )
    dataset = dataset.unbatch()
    dataset = dataset.map(lambda chunk: _read(chunk, frames), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.unbatch()
    dataset = dataset.map(_decode_request, num_parallel_calls=tf.data.AUTOTUNE)
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
        chunk = _chunk_size(share, grid.frames)
        request = {
            "grid": np.full(share, grids.index(grid), np.int64),
            "size": np.full(share, grid.size, np.int32),
            "frames": clips.frames_BT,
            "box": clips.boxes_B3,
            "flip": clips.flip_B,
            "label": clips.label_B,
        }
        yield {name: x.reshape(-1, chunk, *x.shape[1:]) for name, x in request.items()}


def _chunk_size(clips: int, frames: int) -> int:
    """The largest divisor of `clips` that asks for at most _READ_FRAMES frames."""
    most = max(1, _READ_FRAMES // frames)
    return max(size for size in range(1, most + 1) if clips % size == 0)


def _read(request: dict[str, tf.Tensor], frames: ArrayRecordDataSource) -> dict[str, tf.Tensor]:
    """Replaces record numbers by JPEGs, of one clip or of a chunk of clips."""

    def read(numbers: np.ndarray) -> np.ndarray:
        return np.array(frames.__getitems__(numbers.ravel().tolist()), object)

    numbers = request["frames"]
    records = tf.numpy_function(read, [numbers], tf.string, stateful=False)
    records = tf.reshape(records, [tf.size(numbers)])
    parsed = tf.io.parse_example(records, {"jpeg": tf.io.FixedLenFeature([], tf.string)})
    return {**request, "jpegs": tf.reshape(parsed["jpeg"], tf.shape(numbers))}


def _decode_request(request: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    clip = {
        "clips": decode_crops(request["jpegs"], request["box"][None], request["size"])[0],
        "flip": request["flip"],
        "label": request["label"],
    }
    return request["grid"], clip


def decode_crops(jpegs_T: tf.Tensor, boxes_N3: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
    """Decodes once the part of each frame that the crops need and resamples each bilinearly.

    Args:
      jpegs_T: frames of one video.
      boxes_N3: top, left and side of each crop in pixels of the frame, not rounded; N is static.
      size: h, pixels of the results.

    Returns:
      N times `T h h 3` uint8. Pixel centres lie at half-integers in frames and results.
    """
    shape = tf.io.extract_jpeg_shape(jpegs_T[0])[:2]
    corner = tf.reduce_min(boxes_N3[:, :2], 0)
    opposite = tf.reduce_max(boxes_N3[:, :2] + boxes_N3[:, 2:], 0)
    # One more pixel on each side feeds the interpolation at the crop's edge.
    start = tf.maximum(tf.cast(tf.floor(corner), tf.int32) - 1, 0)
    end = tf.minimum(tf.cast(tf.math.ceil(opposite), tf.int32) + 1, shape)
    window = tf.concat([start, end - start], 0)
    frames_THWC = tf.map_fn(
        # The default, INTEGER_FAST, is off by up to two levels and no faster.
        lambda jpeg: tf.io.decode_and_crop_jpeg(
            jpeg, window, channels=3, dct_method="INTEGER_ACCURATE"
        ),
        jpegs_T,
        fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )
    boxes_N3 -= tf.concat([tf.cast(start, tf.float32), [0.0]], 0)
    return [_resample(frames_THWC, box_3, size) for box_3 in tf.unstack(boxes_N3)]


def _resample(frames_THWC: tf.Tensor, box_3: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    scale = tf.cast(size, tf.float32) / box_3[2]
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=frames_THWC,
        size=tf.stack([size, size]),
        scale=tf.stack([scale, scale]),
        translation=-box_3[:2] * scale,
        kernel_type="triangle",
        antialias=False,
    )
    return tf.saturate_cast(tf.round(resampled), tf.uint8)


def view_batches(
    videos: VideoTable,
    frames: ArrayRecordDataSource,
    *,
    clips: int,
    crops: int,
    num_frames: int,
    stride: int,
    size: int,
    short_side: float,
    batch: int,
) -> tf.data.Dataset:
    """This host's part of each batch of test videos; every video is decoded once.

    Args:
      videos: of the split.
      frames: records of the split's frames.
      clips: per video, spread over its length.
      crops: per clip, 1 (centre) or 3 along the longer side.
      num_frames: T of a clip.
      stride: between its frames, in source frames.
      size: of a crop, pixels.
      short_side: of the scaled video, pixels.
      batch: videos over all hosts; their number divides it. The last batch is filled up with
        repetitions of weight 0.

    Returns:
      A data set of {clips `B V T h h 3` uint8, label `B` int32, weight `B` float32},
      V = clips x crops.
    """
    share = batch // jax.process_count()
    rounds = -(-len(videos) // batch)

    def requests():
        for i in range(rounds):
            first = i * batch + jax.process_index() * share
            for row in range(first, first + share):
                yield _view_request(videos, min(row, len(videos) - 1), row < len(videos))

    def _view_request(videos, row, real):
        wanted = sampling.view_frames(videos, row, num_frames, stride, clips)
        numbers, where = np.unique(wanted, return_inverse=True)
        return {
            "frames": numbers,
            "where": where.reshape(wanted.shape).astype(np.int32),
            "boxes": sampling.view_boxes(videos, row, size, short_side, crops),
            "label": videos.label[row],
            "weight": np.float32(real),
        }

    def decode(request):
        frames_of_crops = decode_crops(request["jpegs"], request["boxes"], size)
        return {
            "clips": tf.concat([tf.gather(x, request["where"]) for x in frames_of_crops], 0),
            "label": request["label"],
            "weight": request["weight"],
        }

    dataset = tf.data.Dataset.from_generator(
        requests,
        output_signature={
            "frames": tf.TensorSpec([None], tf.int64),
            "where": tf.TensorSpec([clips, num_frames], tf.int32),
            "boxes": tf.TensorSpec([crops, 3], tf.float32),
            "label": tf.TensorSpec([], tf.int32),
            "weight": tf.TensorSpec([], tf.float32),
        },
    )
    dataset = dataset.map(lambda video: _read(video, frames), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return _with_options(dataset.batch(share, drop_remainder=True).prefetch(2))


def _with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = True
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
        self._fill()

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        self._fill()
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    def _fill(self) -> None:
        start = time.perf_counter()
        while len(self._queue) < _DEVICE_AHEAD:
            batch: Any = next(self._host, None)
            if batch is None:
                break
            self._queue.append(parallel.shard(batch, self._mesh))
        self.wait_s += time.perf_counter() - start
