"""Real video files in, prepared frames out."""

import io
import os

import av
import numpy as np
import pytest
from PIL import Image

from configs.demo import get_config
from data.moving_shapes import drawing
from data.moving_shapes.moving_shapes_dataset_builder import draw_videos
from data.preparation.video_frames import read_frames
from mg_jax.errors import UserError
from mg_jax.input.datasets import frame_records, open_data_set, open_source, video_table
from mg_jax.tools.prepare import prepare


def config_for(folder, **data):
    config = get_config()
    config.data.dir = str(folder)
    config.data.update(data)
    return config


def gradient_images(width, height, count):
    """Red grows with the column, green with the row, blue with the frame."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    for i in range(count):
        planes = [columns * 255 / (width - 1), rows * 255 / (height - 1), np.full_like(rows, 4 * i)]
        yield Image.fromarray(np.stack(planes, -1).astype(np.uint8))


@pytest.mark.parametrize("codec", drawing.CODECS)
def test_every_frame_of_a_video_is_read_in_order(tmp_path, codec):
    path = tmp_path / "video.mp4"
    drawing.encode(path, gradient_images(96, 64, 30), codec=codec, fps=25)
    frames = read_frames(path, short_side=64, quality=95)
    assert (len(frames.jpegs), frames.height, frames.width, frames.fps) == (30, 64, 96, 25)
    for i in (0, 13, 29):
        pixels = np.asarray(Image.open(io.BytesIO(frames.jpegs[i])), float)
        assert pixels[..., 2].mean() == pytest.approx(4 * i, abs=5)


@pytest.mark.parametrize(("size", "stored"), [((96, 64), (48, 32)), ((64, 100), (32, 50))])
def test_frames_are_scaled_down_to_the_short_side_and_never_up(tmp_path, size, stored):
    path = tmp_path / "video.mp4"
    drawing.encode(path, gradient_images(*size, 5), codec="libx264", fps=25)
    frames = read_frames(path, short_side=32, quality=90)
    assert (frames.width, frames.height) == stored
    assert read_frames(path, short_side=200, quality=90).width == size[0]


def test_prepared_frames_are_those_of_the_video_files(data_dir):
    data_set = open_data_set(config_for(data_dir))
    videos = video_table(data_set, "validation")
    assert len(videos) == 11
    frames = frame_records(data_set, "validation")
    assert len(frames) == videos.source_frames.sum()
    for row in (0, 5, 10):
        path = data_dir / "downloads" / "moving_shapes" / "validation" / f"{videos.ids[row]}.mp4"
        expected = read_frames(path, short_side=48, quality=90)
        numbers = videos.first_frame[row] + np.arange(videos.source_frames[row])
        assert frames.jpegs(numbers) == list(expected.jpegs)
        assert (videos.height[row], videos.width[row]) == (expected.height, expected.width)


def test_classes_take_turns_and_videos_vary_in_size_length_and_codec(data_dir):
    config = config_for(data_dir)
    videos = video_table(open_data_set(config), "train")
    np.testing.assert_array_equal(videos.label(np.arange(48)), np.arange(48) % 4)
    assert len(set(videos.source_frames)) > 10
    assert len(set(zip(videos.height, videos.width, strict=True))) > 20
    codecs, rates = set(), set()
    for path in (data_dir / "downloads" / "moving_shapes" / "train").iterdir():
        with av.open(str(path)) as container:
            codecs.add(container.streams.video[0].codec_context.name)
            rates.add(container.streams.video[0].average_rate)
    assert codecs == {"h264", "mpeg4"}
    assert len(rates) > 5


def test_the_same_videos_are_drawn_each_time_whatever_the_number_of_cores(tmp_path):
    cores = os.sched_getaffinity(0)
    # As x264 comes, 46 of 300 files, of both codecs, had other bytes the second time.
    draw_videos(tmp_path / "again", "train", 40, workers=2)
    os.sched_setaffinity(0, {min(cores)})
    try:
        draw_videos(tmp_path / "one core", "train", 40, workers=1)
    finally:
        os.sched_setaffinity(0, cores)
    paths = list((tmp_path / "again").iterdir())
    assert len(paths) == 40
    for path in paths:
        assert path.read_bytes() == (tmp_path / "one core" / path.name).read_bytes(), path.name


def test_a_single_frame_does_not_betray_the_motion():
    """Shapes are everywhere equally likely under every class, at any time of the video."""
    rng = np.random.default_rng(0)
    positions = {motion: [] for motion in drawing.MOTIONS}
    background = Image.new("RGB", (100, 100), (0, 0, 0))
    for motion, direction in drawing.MOTIONS.items():
        for _ in range(1_500):
            shape = drawing.Shape("square", (255, 255, 255), 0.15, tuple(rng.uniform(size=2)))
            moved = np.array(direction) * rng.uniform(0.03, 0.055) * rng.integers(0, 48)
            image = np.asarray(drawing._draw_frame(background, [shape], moved, 100))[..., 0] > 0
            positions[motion].append(image.reshape(10, 10, 10, 10).mean((1, 3)))
    means = {motion: np.mean(maps, 0) for motion, maps in positions.items()}
    overall = np.mean(list(means.values()), 0)
    # A cell is covered with probability 0.05; five standard errors of its mean.
    for mean in means.values():
        assert np.abs(mean - overall).max() < 5 * 0.22 / np.sqrt(1_500)


def probe_accuracy(features_NF, labels_N):
    """Share of the last third right, by a ridge regression on the first two thirds."""
    features_NF = (features_NF - features_NF.mean(0)) / (features_NF.std(0) + 1e-9)
    split = 2 * len(labels_N) // 3
    seen_NF, targets_NK = features_NF[:split], np.eye(4)[labels_N[:split]] - 0.25
    ridge_FF = seen_NF.T @ seen_NF + 30 * np.eye(features_NF.shape[1])
    weights_FK = np.linalg.solve(ridge_FF, seen_NF.T @ targets_NK)
    return (np.argmax(features_NF[split:] @ weights_FK, 1) == labels_N[split:]).mean()


def frame_features(frame_HW):
    """What one frame shows: a thumbnail, and whether its edges and artefacts favour a side."""
    image = Image.fromarray(frame_HW.astype(np.uint8))
    thumbnail = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float).ravel()
    rows_HW, columns_HW = np.gradient(frame_HW)
    rough_HW = np.abs(np.gradient(rows_HW, axis=0) + np.gradient(columns_HW, axis=1))
    sides = [
        (g**n * rough_HW**m).mean() for g in (rows_HW, columns_HW) for n in (1, 3) for m in (0, 1)
    ]
    return np.concatenate([thumbnail, sides])


def motion_features(before_HW, after_HW):
    """The mean of temporal times spatial gradients, whose sign is the direction of motion."""
    change_HW = after_HW - before_HW
    return np.array([(change_HW * g).mean() for g in np.gradient((before_HW + after_HW) / 2)])


def test_decoded_frames_betray_the_motion_in_pairs_and_not_alone(tmp_path):
    videos = draw_videos(tmp_path, "train", 420, workers=2)
    rng = np.random.default_rng(0)
    labels, alone, pairs = [], [], []
    for video in videos:
        jpegs = list(read_frames(video.path, short_side=48, quality=90).jpegs)
        first = rng.integers(len(jpegs) - 1)
        before, after = (
            np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)
            for jpeg in jpegs[first : first + 2]
        )
        labels.append(video.actions[0].label)
        alone.append(frame_features(before))
        pairs.append(motion_features(before, after))
    labels = np.array(labels)
    assert probe_accuracy(np.array(pairs), labels) > 0.8
    # Chance is 0.25, its standard error on 140 videos 0.037.
    assert probe_accuracy(np.array(alone), labels) < 0.25 + 4 * 0.037


def test_preparing_again_keeps_what_is_there(data_dir, capsys):
    before = sorted((p, p.stat().st_mtime_ns) for p in data_dir.rglob("*") if p.is_file())
    prepare(config_for(data_dir))
    after = sorted((p, p.stat().st_mtime_ns) for p in data_dir.rglob("*") if p.is_file())
    assert before == after
    assert "48 train" in capsys.readouterr().out


def test_missing_data_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError, match=r"no prepared data set in .*; prepare it with --mode=pre"):
        open_source(config_for(tmp_path))


def test_an_unknown_data_set_names_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r"data.name='kinetix' has no builder"):
        prepare(config_for(tmp_path, name="kinetix"))


def test_a_missing_split_names_those_there_are(data_dir):
    with pytest.raises(UserError, match=r"has no split 'test'; there are train, validation"):
        open_source(config_for(data_dir, eval_split="test"))


def test_classes_that_do_not_match_the_model_are_refused(data_dir):
    config = config_for(data_dir)
    config.model.num_classes = 400
    with pytest.raises(UserError, match=r"model.num_classes=400, but .* has 4 classes"):
        open_source(config)
