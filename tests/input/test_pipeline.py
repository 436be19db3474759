import dataclasses
import shutil

import av
import jax
import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
from jax import lax
from jax.sharding import Mesh
from PIL import Image

from configs.demo import get_config
from data.format.crop import crop
from data.format.jpeg import encode_jpeg
from data.format.records import DamagedVideos, DataError
from data.format.video_table import Actions, VideoTable
from data.preparation.video_frames import read_frames
from mg_jax.grid import BaseGrid, Shape
from mg_jax.input import sampling
from mg_jax.input.datasets import DataSource, open_source
from mg_jax.input.pipeline import DeviceBatches, clip_batches, view_batches
from mg_jax.input.sampling import Augmentation
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel

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
        source.train,
        PLAIN,
        list(schedule.grids_from(steps.start)),
        ((schedule.grid(i), schedule.position(i)) for i in steps),
    ).as_numpy_iterator()


def interpolate(image, box, size):
    """Bilinear interpolation at the crop's pixel centres, edges repeated.

    Where the crop has less than half the pixels, it is that of means over 2 x 2, 4 x 4 ... pixels.
    """
    top, left, side = (int(v) for v in box)
    while side >= 2 * size:
        image, top, left, side = image.reduce(2), top / 2, left / 2, side / 2

    def weights(start, extent):
        at = start + (np.arange(size) + 0.5) * side / size - 0.5
        at = np.clip(at, np.ceil(start), min(np.floor(start + side), extent) - 1)
        low = np.minimum(np.floor(at).astype(int), extent - 2)
        matrix = np.zeros((size, extent))
        matrix[np.arange(size), low] = 1 - (at - low)
        matrix[np.arange(size), low + 1] += at - low
        return matrix

    image_HWC = np.asarray(image, float)
    rows, columns = weights(top, image.height), weights(left, image.width)
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image_HWC)


def test_batches_follow_the_schedule_and_hold_the_clips_that_arithmetic_says(source, schedule):
    data, used = source.train.videos, set()
    batches = batches_of(source, schedule, range(schedule.iterations))
    for step, batch in enumerate(batches):
        grid = schedule.grid(step)
        used.add(grid)
        assert batch["clips"].shape == (grid.batch, grid.frames, grid.size, grid.size, 3)
        assert batch["clips"].dtype == np.uint8
        clips = sampling.sample_clips(data, grid, PLAIN, schedule.position(step), grid.batch)
        np.testing.assert_array_equal(batch["label"], data.label(clips.rows_B))
        np.testing.assert_array_equal(batch["flip"], clips.flip_B)
        if step % 3 == 0:
            row = step % grid.batch
            (numbers,) = data.records(clips.rows_B[row : row + 1], clips.frames_BT[row : row + 1])
            assert_pixels(source.train, batch["clips"][row], numbers, clips.boxes_B3[row])
    assert step == schedule.iterations - 1
    assert used == set(schedule.grids_from(0))


def assert_pixels(split, clip_THWC, numbers, box):
    for frame_HWC, jpeg in zip(clip_THWC, split.frames.jpegs(numbers), strict=True):
        image = Image.fromarray(simplejpeg.decode_jpeg(jpeg, fastupsample=True))
        difference = np.abs(frame_HWC - interpolate(image, box, len(frame_HWC)))
        # Decoding at half the size is a mean of a slightly other kind.
        shrinks = box[2] >= 2 * len(frame_HWC)
        assert difference.mean() < (3 if shrinks else 1)
        assert np.quantile(difference, 0.9) < (6 if shrinks else 2)


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


def crop_of(image_HWC, box, size):
    """A crop of an image that is stored as frames are, once decoded whole and once in blocks."""
    jpeg = encode_jpeg(Image.fromarray(image_HWC), quality=95)
    found = []
    for frames in (1, 25):
        out = np.empty((1, frames, size, size, 3), np.uint8)
        crop(out, [jpeg] * frames, image_HWC.shape[:2], np.array([box]))
        found += list(out[0])
    assert all(np.array_equal(found[0], other) for other in found)
    return found[0]


@pytest.mark.parametrize("size", [16, 32, 60])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_a_gradient_lands_where_the_geometry_says(size, axis):
    levels = 4 * np.arange(60)
    image = np.broadcast_to(levels[:, None] if axis == "row" else levels, (60, 60))
    top, left, side = 3, 12, 44
    found = crop_of(np.repeat(image[..., None], 3, -1).astype(np.uint8), [top, left, side], size)
    found = found.astype(float).mean(-1).mean(1 if axis == "row" else 0) / 4
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    expected = (top if axis == "row" else left) + np.clip(centres, 0, side - 1)
    np.testing.assert_allclose(found, expected, atol=0.3)


@pytest.mark.parametrize("shape", [Shape(1, 1), Shape(2, 2), Shape(4, 4)])
@pytest.mark.parametrize("axis", ["row", "column", "frame"])
def test_a_gradient_video_lands_to_half_a_pixel_and_one_frame(tmp_path, axis, shape):
    """A pixel's level is its row, column or frame: a clip says itself where it is from."""
    width, height, count = 80, 64, 60
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    path = tmp_path / "gradient.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for i in range(count):
            levels = 3 * {"row": rows, "column": columns, "frame": np.full_like(rows, i)}[axis]
            image = np.repeat(levels[..., None], 3, -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    stored = read_frames(path, short_side=48, quality=95)
    table = VideoTable(
        ids=np.array(["gradient"]),
        first_frame=np.array([0]),
        source_frames=np.array([stored.source_frames]),
        height=np.array([stored.height]),
        width=np.array([stored.width]),
        actions=Actions(*(np.array([0]) for _ in range(3)), np.array([count])),
        classes=1,
    )
    grid = BaseGrid(8, 16, 32, 8, 2, (36.0, 48.0)).at(shape, 1)
    clips = sampling.sample_clips(table, grid, PLAIN, 0, 20)
    for frames_T, box in zip(clips.frames_BT, clips.boxes_B3, strict=True):
        out = np.empty((1, grid.frames, grid.size, grid.size, 3), np.uint8)
        jpegs = [stored.jpegs[min(frame, count - 1)] for frame in frames_T]
        crop(out, jpegs, (stored.height, stored.width), box[None])
        found_Thh = out[0].astype(float).mean(-1) / 3
        if axis == "frame":
            assert np.abs(found_Thh.mean((1, 2)) - np.minimum(frames_T, count - 1)).max() < 1
            continue
        # In pixels of the source, of which a stored one is 4/3.
        pixel = box[2] / grid.size * height / 48
        start = box[0 if axis == "row" else 1] * height / 48 - 0.5
        centres = start + (np.arange(grid.size) + 0.5) * pixel
        found_h = found_Thh.mean((0, 2) if axis == "row" else (0, 1))
        # The edge of the crop repeats its first and last pixel.
        assert np.abs(found_h - centres)[1:-1].max() < 0.5 * pixel


def test_a_crop_at_the_edge_repeats_it():
    image = np.full((40, 50, 3), 200, np.uint8)
    for box in ([0, 0, 40], [0, 10, 40]):
        assert np.abs(crop_of(image, box, 64).astype(int) - 200).max() <= 1


@pytest.mark.parametrize("shrink", [2, 3, 4, 9])
def test_crops_that_shrink_much_are_means_and_do_not_alias(shrink):
    """Stripes that are finer than the crop's pixels become grey, as a mean would."""
    side = 16 * shrink
    image = np.zeros((160, 160, 3), np.uint8)
    image[:, ::2] = 255
    found = crop_of(image, [8, 8, side], 16)
    assert np.abs(found.astype(float) - 127.5).max() < 16


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (10, 1), (4, 3)])
@pytest.mark.parametrize("stride", [2, None])
def test_test_videos_come_once_each_with_all_their_views(source, clips, crops, stride):
    split = source.evaluation
    views = sampling.Views(clips, crops, frames=8, stride=stride, size=32, short_side=36)
    batches = list(view_batches(split, views, batch=4).as_numpy_iterator())
    assert [b["clips"].shape for b in batches] == [(4, clips * crops, 8, 32, 32, 3)] * 3
    weight = np.concatenate([b["weight"] for b in batches])
    np.testing.assert_array_equal(weight, [1] * 11 + [0])
    for row in (2, 7):
        video = batches[row // 4]["clips"][row % 4]
        frames_CT = sampling.view_frames(split.videos, row, views)
        numbers_CT = split.videos.records(np.full(clips, row), frames_CT)
        for i, box in enumerate(sampling.view_boxes(split.videos, row, views)):
            for j, numbers in enumerate(numbers_CT):
                assert_pixels(split, video[i * clips + j], numbers, box)


@pytest.fixture
def damaged(source, data_dir, tmp_path):
    """A copy of the data set with a bit of every frame of video 5 of both splits changed."""
    folder = tmp_path / "data"
    shutil.copytree(data_dir / "moving_shapes", folder / "moving_shapes")
    for name, split in (("train", source.train), ("validation", source.evaluation)):
        (path,) = folder.rglob(f"*{name}_frames*-00000-of-*")
        content = bytearray(path.read_bytes())
        first, count = split.videos.first_frame[5], split.videos.source_frames[5]
        for jpeg in split.frames.jpegs(first + np.arange(count)):
            content[content.find(jpeg) + len(jpeg) // 2] ^= 1
        path.write_bytes(content)
    return folder


def open_with(folder, max_damaged):
    config = get_config()
    config.data.dir = str(folder)
    config.data.max_damaged = max_damaged
    return open_source(config)


def test_a_damaged_video_is_named_counted_and_replaced_by_another(
    source, schedule, damaged, caplog
):
    steps = range(schedule.iterations)
    mended = open_with(damaged, max_damaged=0.1)
    batches = list(batches_of(mended, schedule, steps))
    (line,) = [r.getMessage() for r in caplog.records if "is damaged" in r.getMessage()]
    assert mended.train.damaged.rows == {5}
    videos, bad, other = source.train.videos, 5, 5 + 1 + 48 // 2
    assert videos.ids[bad] in line
    assert f"{videos.ids[other]} takes its place" in line
    assert "hash mismatch" in line
    replaced = 0
    for step, batch, whole in zip(steps, batches, batches_of(source, schedule, steps), strict=True):
        grid = schedule.grid(step)
        clips = sampling.sample_clips(videos, grid, PLAIN, schedule.position(step), grid.batch)
        same_B = (batch["clips"] == whole["clips"]).all((1, 2, 3, 4))
        assert np.all(same_B | (clips.rows_B == bad))
        replaced += np.sum(~same_B)
        np.testing.assert_array_equal(batch["label"][~same_B], videos.label(np.array([other]))[0])
    assert replaced > 0
    # A run that is repeated replaces it by the same.
    for a, b in zip(batches, batches_of(open_with(damaged, 0.1), schedule, steps), strict=True):
        np.testing.assert_array_equal(a["clips"], b["clips"])


def test_training_stops_past_the_share_of_damaged_videos(schedule, damaged):
    split = open_with(damaged, max_damaged=0.01).train
    mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    iterations = ((schedule.grid(i), schedule.position(i)) for i in range(schedule.iterations))
    dataset = clip_batches(split, PLAIN, list(schedule.grids_from(0)), iterations)
    with pytest.raises(
        DataError, match=r"1 of 48 videos are damaged, more than the share data.max"
    ):
        list(DeviceBatches(dataset, mesh, split.damaged))


def test_a_damaged_test_video_is_left_out(damaged):
    split = open_with(damaged, max_damaged=0.1).evaluation
    views = sampling.Views(1, 1, frames=8, stride=1, size=32, short_side=36)
    batches = list(view_batches(split, views, batch=4).as_numpy_iterator())
    weight_N = np.concatenate([batch["weight"] for batch in batches])[:11]
    np.testing.assert_array_equal(weight_N, np.arange(11) != 5)
    assert split.damaged.rows == {5}


def test_videos_with_several_labels_give_multi_hot_labels(source, schedule):
    videos = source.train.videos
    doubled = dataclasses.replace(
        videos.actions,
        row=np.repeat(videos.actions.row, 2),
        label=np.stack([videos.actions.label, (videos.actions.label + 1) % 4], 1).ravel(),
        start=np.repeat(videos.actions.start, 2),
        end=np.repeat(videos.actions.end, 2),
    )
    split = dataclasses.replace(
        source.train, videos=dataclasses.replace(videos, actions=doubled), multi_label=True
    )
    both = DataSource(split, source.evaluation, source.classes)
    batch = next(batches_of(both, schedule, range(1)))
    single = next(batches_of(source, schedule, range(1)))["label"]
    assert batch["label"].dtype == np.uint8
    expected = np.eye(4)[single] + np.eye(4)[(single + 1) % 4]
    np.testing.assert_array_equal(batch["label"], expected)


def test_batches_arrive_on_all_devices_in_order(source, schedule):
    mesh = Mesh(np.array(jax.devices()[:4]), (parallel.AXIS,))
    steps = range(6)
    grids = list(schedule.grids_from(0))
    dataset = clip_batches(
        source.train,
        PLAIN,
        grids,
        ((schedule.grid(i), schedule.position(i)) for i in steps),
    )
    on_device = list(DeviceBatches(dataset, mesh, source.train.damaged))
    assert len(on_device) == 6
    for expected, batch in zip(batches_of(source, schedule, steps), on_device, strict=True):
        np.testing.assert_array_equal(batch["clips"], expected["clips"])
        assert len(batch["clips"].sharding.device_set) == 4
        assert batch["clips"].addressable_shards[0].data.shape[0] * 4 == len(expected["clips"])


def test_only_what_idle_devices_wait_for_counts_as_waiting():
    mesh = parallel.make_mesh()
    dataset = tf.data.Dataset.from_tensors({"x": np.zeros(8)}).repeat(20)
    batches = DeviceBatches(dataset, mesh, DamagedVideos(20, 0.0))
    a = jax.device_put(np.eye(1000, dtype=np.float32))
    power = jax.jit(lambda x: lax.fori_loop(0, 300, lambda i, y: y @ x, x)).lower(a).compile()
    next(batches)
    waited = batches.wait_s
    busy = power(a)
    batches.prefetch(busy)
    assert not busy.is_ready()
    assert batches.wait_s == waited
    next(batches)
    batches.prefetch(jax.block_until_ready(busy))
    assert batches.wait_s > waited
