import io

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import Mesh
from PIL import Image

from configs.demo import get_config
from mg_jax import parallel, sampling
from mg_jax.datasets import open_source
from mg_jax.input_pipeline import DeviceBatches, clip_batches, decode, resample, view_batches
from mg_jax.recipe import schedule_from_config
from mg_jax.sampling import Augmentation, VideoTable

PLAIN = Augmentation(seed=0, flip=True, inverse_uniform=False)


@pytest.fixture(scope="module")
def source(data_dir):
    config = get_config()
    config.data.dir = str(data_dir)
    return open_source(config)


@pytest.fixture(scope="module")
def schedule():
    config = get_config()
    config.schedule.steps = (20, 30)
    config.schedule.iterations = 40
    config.schedule.warmup_iterations = 0
    return schedule_from_config(config)


def batches_of(source, schedule, steps):
    return clip_batches(
        source.train_videos,
        source.train_frames,
        PLAIN,
        list(schedule.grids_from(steps.start)),
        ((schedule.grid(i), schedule.position(i)) for i in steps),
    ).as_numpy_iterator()


def interpolate(image_HWC, box, size):
    """Bilinear interpolation at the crop's pixel centres, edges repeated: a double loop's worth."""
    top, left, side = (float(v) for v in box)
    height, width = image_HWC.shape[:2]

    def weights(start, extent):
        at = np.clip(start + (np.arange(size) + 0.5) * side / size - 0.5, 0, extent - 1)
        low = np.minimum(np.floor(at).astype(int), extent - 2)
        matrix = np.zeros((size, extent))
        matrix[np.arange(size), low] = 1 - (at - low)
        matrix[np.arange(size), low + 1] += at - low
        return matrix

    rows, columns = weights(top, height), weights(left, width)
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image_HWC)


def test_batches_follow_the_schedule_and_hold_the_clips_of_their_positions(source, schedule):
    data = source.train_videos
    used = set()
    batches = batches_of(source, schedule, range(schedule.iterations))
    for step, batch in enumerate(batches):
        grid = schedule.grid(step)
        used.add(grid)
        assert batch["clips"].shape == (grid.batch, grid.frames, grid.size, grid.size, 3)
        assert batch["clips"].dtype == np.uint8
        clips = sampling.sample_clips(data, grid, PLAIN, schedule.position(step), grid.batch)
        np.testing.assert_array_equal(batch["label"], data.label[clips.rows_B])
        np.testing.assert_array_equal(batch["flip"], clips.flip_B)
        if step % 3 == 0:
            assert_pixels(source, batch["clips"], clips, row=step % grid.batch)
    assert step == schedule.iterations - 1
    assert used == set(schedule.grids_from(0))


def assert_pixels(source, clips_BTHWC, clips, row):
    for t, number in enumerate(clips.frames_BT[row]):
        record = source.train_frames[int(number)]
        jpeg = tf.train.Example.FromString(record).features.feature["jpeg"].bytes_list.value[0]
        frame = np.asarray(Image.open(io.BytesIO(jpeg)), float)
        expected = interpolate(frame, clips.boxes_B3[row], clips_BTHWC.shape[2])
        difference = np.abs(clips_BTHWC[row, t] - expected)
        # At the crop's border chroma is interpolated from what was decoded alone.
        assert difference.mean() < 1
        assert np.quantile(difference, 0.9) < 2


def test_a_run_that_starts_later_gets_the_same_batches(source, schedule):
    whole = list(batches_of(source, schedule, range(schedule.iterations)))
    for start in (1, 7):
        rest = list(batches_of(source, schedule, range(start, schedule.iterations)))
        assert len(rest) == len(whole) - start
        for a, b in zip(whole[start:], rest, strict=True):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_hosts_read_the_slices_of_one_batch(source, schedule, monkeypatch):
    whole = next(batches_of(source, schedule, range(2, 4)))
    parts = []
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    for host in range(4):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        parts.append(next(batches_of(source, schedule, range(2, 4))))
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)


def crop_of(jpeg, shape, box, size):
    """The crop of one JPEG of `shape` as the pipeline cuts it."""
    video = VideoTable(*(np.array([value]) for value in ("v", 0, 0, 1, *shape)))
    boxes_13 = np.array([box], np.float32)
    windows_14 = sampling.decode_windows(video, np.array([0]), boxes_13)
    resampling = tf.constant(sampling.resamplings(boxes_13, windows_14, size)[0])
    frames = decode(tf.stack([jpeg]), tf.constant(windows_14[0], tf.int32))
    return resample(frames, resampling, tf.constant(size))[0]


@pytest.mark.parametrize("size", [16, 32, 60])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_a_gradient_lands_where_the_geometry_says(size, axis):
    levels = 4 * np.arange(60)
    image = np.broadcast_to(levels[:, None] if axis == "row" else levels, (60, 60))
    jpeg = tf.io.encode_jpeg(np.repeat(image[..., None], 3, -1).astype(np.uint8), quality=100)
    top, left, side = 3.4, 11.7, 44.2
    crop = crop_of(jpeg, (60, 60), [top, left, side], size)
    found = np.asarray(crop, float).mean(-1).mean(1 if axis == "row" else 0) / 4
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    np.testing.assert_allclose(found, (top if axis == "row" else left) + centres, atol=0.2)


def test_a_crop_at_the_edge_repeats_it():
    image = np.full((40, 50, 3), 200, np.uint8)
    jpeg = tf.io.encode_jpeg(image, quality=100)
    for box in ([0.0, 0.0, 40.0], [0.0, 10.0, 40.0]):
        crop = crop_of(jpeg, (40, 50), box, 64)
        assert np.abs(np.asarray(crop, int) - 200).max() <= 1


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (10, 1), (4, 3)])
def test_test_videos_come_once_each_with_all_their_views(source, clips, crops):
    videos = source.eval_videos
    views = sampling.Views(clips, crops, frames=8, stride=2, size=32, short_side=36)
    dataset = view_batches(videos, source.eval_frames, views, batch=4)
    batches = list(dataset.as_numpy_iterator())
    assert [b["clips"].shape for b in batches] == [(4, clips * crops, 8, 32, 32, 3)] * 3
    weight = np.concatenate([b["weight"] for b in batches])
    labels = np.concatenate([b["label"] for b in batches])
    np.testing.assert_array_equal(weight, [1] * 11 + [0])
    np.testing.assert_array_equal(labels[:11], videos.label)
    first = batches[0]["clips"][2]
    boxes = sampling.view_boxes(videos, 2, views)
    frames = sampling.view_frames(videos, 2, views)
    for i, box in enumerate(boxes):
        view = sampling.Clips(None, frames, np.tile(box, (clips, 1)), None)
        eval_source = EvalAsTrain(source.eval_frames)
        for row in range(clips):
            assert_pixels(eval_source, first[i * clips : (i + 1) * clips], view, row)


class EvalAsTrain:
    def __init__(self, frames):
        self.train_frames = frames


def test_batches_arrive_on_all_devices_in_order(source, schedule):
    mesh = Mesh(np.array(jax.devices()[:4]), (parallel.AXIS,))
    steps = range(6)
    grids = list(schedule.grids_from(0))
    dataset = clip_batches(
        source.train_videos,
        source.train_frames,
        PLAIN,
        grids,
        ((schedule.grid(i), schedule.position(i)) for i in steps),
    )
    on_device = list(DeviceBatches(dataset, mesh))
    assert len(on_device) == 6
    for expected, batch in zip(batches_of(source, schedule, steps), on_device, strict=True):
        np.testing.assert_array_equal(batch["clips"], expected["clips"])
        assert len(batch["clips"].sharding.device_set) == 4
        assert batch["clips"].addressable_shards[0].data.shape[0] * 4 == len(expected["clips"])
