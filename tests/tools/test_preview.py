"""The contact sheet of --mode=preview: what is on it is what training reads."""

import dataclasses
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from data.format.records import DataError
from data.format.video_table import Actions
from mg_jax.input.datasets import open_source
from mg_jax.input.pipeline import clip_batches
from mg_jax.input.sampling import training_augmentation
from mg_jax.recipe import schedule_from_config
from mg_jax.tools.preview import FRAME_GAP, Clip, Section, draw, read_sections, write_preview
from tests import runs
from tests.damaged import DamagedFrames


@pytest.fixture
def config(config):
    config.data.flip = True
    return config


def sections_of(config, source=None):
    return read_sections(config, schedule_from_config(config), source or open_source(config))


def first_batches(config):
    """Of each grid: the grid, its first iteration and the whole batch that trains there."""
    schedule, split = schedule_from_config(config), open_source(config).train
    firsts = {}
    for step in range(schedule.iterations):
        firsts.setdefault(schedule.grid(step), step)
    augmentation = training_augmentation(config.data, config.seed)
    iterations = ((grid, schedule.position(step)) for grid, step in firsts.items())
    batches = clip_batches(split, augmentation, list(firsts), iterations).as_numpy_iterator()
    return [(grid, step, next(batches)) for grid, step in firsts.items()]


def places(sheet_HWC, frame_hwC):
    """Top left corners at which a frame lies in the sheet, pixel by pixel."""
    h, w = frame_hwC.shape[:2]
    corner = (sheet_HWC[: 1 - h, : 1 - w] == frame_hwC[0, 0]).all(-1)
    return {
        (int(y), int(x))
        for y, x in np.argwhere(corner)
        if np.array_equal(sheet_HWC[y : y + h, x : x + w], frame_hwC)
    }


def is_shown(sheet_HWC, frames_THWC):
    """Whether frames lie next to each other in the sheet."""
    pitch = frames_THWC.shape[2] + FRAME_GAP
    corners = [places(sheet_HWC, frame_HWC) for frame_HWC in frames_THWC]
    return any(
        all((y, x + t * pitch) in found for t, found in enumerate(corners)) for y, x in corners[0]
    )


def test_every_grid_shows_the_first_clips_of_its_first_batch(config, tmp_path):
    write_preview(config, tmp_path)
    sheet_HWC = np.asarray(Image.open(tmp_path / "preview.png"))
    batches = first_batches(config)
    assert len({grid for grid, *_ in batches}) == 4
    flips = set()
    for grid, _, batch in batches:
        for clip_THWC, flip in zip(batch["clips"][:2], batch["flip"], strict=False):
            seen_THWC = clip_THWC[:, :, ::-1] if flip else clip_THWC
            assert is_shown(sheet_HWC, seen_THWC), grid
            flips.add(bool(flip))
        assert not is_shown(sheet_HWC, batch["clips"][2])
    assert flips == {False, True}


def test_of_longer_clips_eight_frames_are_shown_evenly_spread(config):
    config.frames = 32
    for section, (grid, _, batch) in zip(sections_of(config), first_batches(config), strict=True):
        every = grid.frames // 8
        seen_THWC = batch["clips"][0, ::every]
        seen_THWC = seen_THWC[:, :, ::-1] if batch["flip"][0] else seen_THWC
        np.testing.assert_array_equal(section.clips[0].frames_THWC, seen_THWC)
        assert section.notes.endswith(f" · 8 of {grid.frames} frames shown")


NOTES = re.compile(
    r"(\w+) · frames (\d+)-(\d+) of (\d+), stride (\d+) · short side (\d+) px · (not )?flipped"
)
LAST_OF = re.compile(r"frames \d+-(\d+) of (\d+)")


def test_grids_and_clips_are_described(config):
    source = open_source(config)
    videos = source.train.videos
    for section, (grid, step, batch) in zip(
        sections_of(config, source), first_batches(config), strict=True
    ):
        low, high = grid.strides
        strides = f"{low}-{high}" if low < high else f"{low}"
        short_sides = "-".join(str(round(side)) for side in grid.short_sides)
        assert section.title == f"{grid.batch} x {grid.frames} x {grid.size}^2"
        assert section.notes == (
            f"stride {strides} · short side {short_sides} px · sub-batch {grid.sub_batch} · "
            f"first iteration {step}"
        )
        for b, clip in enumerate(section.clips):
            assert clip.classes == source.classes[batch["label"][b]]
            name, *numbers, unflipped = NOTES.fullmatch(clip.notes).groups()
            first, last, count, stride, short_side = map(int, numbers)
            (row,) = np.flatnonzero(videos.ids == name)
            assert videos.label(np.array([row])) == batch["label"][b]
            assert count == videos.source_frames[row]
            assert low <= stride <= high
            assert last == first + stride * (grid.frames - 1) < count
            assert grid.short_sides[0] - 1 <= short_side <= grid.short_sides[1] + 1
            assert (unflipped is None) == batch["flip"][b]


def test_frames_that_repeat_or_follow_no_stride_are_said_to(config):
    config.data.stride = 9
    notes = [clip.notes for section in sections_of(config) for clip in section.clips]
    spans = [tuple(map(int, LAST_OF.search(note).groups())) for note in notes]
    repeated = [last >= count for last, count in spans]
    assert True in repeated
    assert [", the last repeated ·" in note for note in notes] == repeated
    config.data.sampling = "segments"
    for section in sections_of(config):
        assert re.match(r"a frame of each of [48] parts · short side", section.notes)
        assert "stride" not in section.notes + section.clips[0].notes


def test_all_labels_that_hold_within_a_clip_are_named(config):
    source = open_source(config)
    count = len(source.train.videos)
    label = source.train.videos.actions.label
    # Each video carries its label and the next one throughout, and another one later than its end.
    actions = Actions(
        row=np.repeat(np.arange(count), 3),
        label=np.stack([label, (label + 1) % 4, (label + 2) % 4], 1).ravel(),
        start=np.tile([0, 0, 10_000], count),
        end=np.tile([10_000, 10_000, 10_001], count),
    )
    for section, plain in zip(
        sections_of(config, relabelled(source, actions)), sections_of(config), strict=True
    ):
        for clip, single in zip(section.clips, plain.clips, strict=True):
            k = source.classes.index(single.classes)
            both = sorted((k, (k + 1) % 4))
            assert clip.classes == " · ".join(source.classes[k] for k in both)
    none = np.array([], np.int64)
    unlabelled = relabelled(source, Actions(none, none, none, none))
    clips = [clip for section in sections_of(config, unlabelled) for clip in section.clips]
    assert {clip.classes for clip in clips} == {"no label"}


def relabelled(source, actions):
    videos = dataclasses.replace(source.train.videos, actions=actions)
    train = dataclasses.replace(source.train, videos=videos, multi_label=True)
    return dataclasses.replace(source, train=train)


def test_every_word_is_drawn_beside_the_clips(config):
    sections = sections_of(config)
    sheet_HWC = np.asarray(draw("heading", sections))
    without = [np.asarray(draw("", sections))]
    for i, section in enumerate(sections):
        before, clip, after = sections[:i], section.clips[1], sections[i + 1 :]
        for changed in (
            dataclasses.replace(section, title=""),
            dataclasses.replace(section, notes=""),
            with_clip(section, dataclasses.replace(clip, classes="")),
            with_clip(section, dataclasses.replace(clip, notes="")),
        ):
            without.append(np.asarray(draw("heading", [*before, changed, *after])))
    erased = [(sheet_HWC != other_HWC).any(-1) for other_HWC in without]
    assert all(mask_HW.sum() > 20 for mask_HW in erased)
    # No two of them share a pixel, and none lies on a clip.
    assert np.sum(erased, 0).max() == 1
    for section in sections:
        assert all(is_shown(without[0], clip.frames_THWC) for clip in section.clips)
    for mask_HW, section in zip(erased[1::4], sections, strict=True):
        y = np.flatnonzero(mask_HW.any(1))
        others = [places(sheet_HWC, clip.frames_THWC[0]) for clip in section.clips]
        assert all(y.max() < top for found in others for top, _ in found)


def with_clip(section, clip):
    return dataclasses.replace(section, clips=[section.clips[0], clip])


def test_long_names_go_on_in_the_next_line(config):
    sections = sections_of(config)
    clip = sections[0].clips[1]
    long = dataclasses.replace(
        clip,
        classes=" · ".join(["Putting something on a shelf", "Holding a cup"] * 10),
        notes="a_folder/of_videos/" * 10 + clip.notes,
    )
    plain = draw("heading", sections)
    sheet = draw("heading", [with_clip(sections[0], long), *sections[1:]])
    assert sheet.width == plain.width
    assert sheet.height > plain.height
    margin_HWC = np.asarray(sheet)[:, -30:]
    assert (margin_HWC == margin_HWC[0, 0]).all()
    assert is_shown(np.asarray(sheet), clip.frames_THWC)


def test_eight_frames_of_224_pixels_make_an_upright_sheet_of_less_than_2000():
    sections = [
        Section("title", "notes", [Clip(np.zeros((8, size, size, 3), np.uint8), "up", "notes")] * 2)
        for size in (112, 158) * 3 + (224, 158, 224, 112)
    ]
    sheet = draw("heading", sections)
    assert sheet.width < 2000
    assert sheet.height > 2 * sheet.width


def test_too_many_damaged_videos_end_it(config):
    source = open_source(config)
    frames = DamagedFrames(source.train, range(len(source.train.videos)))
    train = dataclasses.replace(source.train, frames=frames)
    with pytest.raises(DataError, match=r"videos are damaged, more than the share"):
        sections_of(config, dataclasses.replace(source, train=train))


def test_notes_tell_of_the_video_that_takes_a_damaged_ones_place(config):
    config.data.max_damaged = 0.1
    source = open_source(config)
    videos, schedule = source.train.videos, schedule_from_config(config)
    intended = sections_of(config)[0].clips[0].notes.split(" · ")[0]
    (bad,) = np.flatnonzero(videos.ids == intended)
    train = dataclasses.replace(source.train, frames=DamagedFrames(source.train, [bad]))
    clip = sections_of(config, dataclasses.replace(source, train=train))[0].clips[0]
    name, *numbers, unflipped = NOTES.fullmatch(clip.notes).groups()
    first, last, count, stride, short_side = map(int, numbers)
    (shown,) = np.flatnonzero(videos.ids == name)
    assert shown != bad
    assert count == videos.source_frames[shown]
    assert clip.classes == source.classes[videos.label(np.array([shown]))[0]]
    # Cut out of that video as the notes say, it is what is shown.
    grid = schedule.grid(0)
    assert last == first + stride * (grid.frames - 1)
    records = videos.first_frame[shown] + np.arange(first, last + 1, stride)
    frames = [Image.open(io.BytesIO(jpeg)) for jpeg in source.train.frames.jpegs(records)]
    side = round(grid.size * min(frames[0].size) / short_side)
    assert has_crop(frames, clip.frames_THWC[:, :, :: 1 if unflipped else -1], side)


def has_crop(frames, crops_ThhC, side):
    """Whether squares of about a side, at one place in all frames, look like the crops."""
    width, height = frames[0].size
    size = crops_ThhC.shape[1:3]
    differences = [
        np.mean(
            [
                np.abs(frame.resize(size, Image.Resampling.BILINEAR, box) - crop_hhC.astype(float))
                for frame, crop_hhC in zip(frames, crops_ThhC, strict=True)
            ]
        )
        for s in (side - 1, side, side + 1)
        for top in range(0, height - s + 1)
        for left in range(0, width - s + 1)
        for box in [(left, top, left + s, top + s)]
    ]
    return min(differences) < 4


def test_the_command_writes_a_picture_and_names_it(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")  # it opens no accelerator
    output = runs.run(tmp_path / "run", *flags, mode="preview")
    path = tmp_path / "run" / "preview.png"
    assert output == f"see {path}, the first clips of each grid; --mode=train trains on them\n"
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert list(path.parent.iterdir()) == [path]


def test_letters_of_classes_that_no_font_has_are_said(config, data_dir, tmp_path):
    folder = shutil.copytree(data_dir / "moving_shapes", tmp_path / "moving_shapes")
    config.data.dir = str(tmp_path)
    (names,) = folder.rglob("labels.labels.txt")
    names.write_text("прыжок\nθψ\nsauté\nžvýkat\n", encoding="utf-8")
    assert "no font" not in write_preview(config, tmp_path / "run")
    names.write_text("".join(f"{chr(0xE0FC + k)}\n" for k in range(4)), encoding="utf-8")
    said = write_preview(config, tmp_path / "run")
    assert re.search(r"no font here has U\+E0F[C-F]\b", said)


def test_without_the_data_set_it_says_how_to_prepare_it(tmp_path):
    missing = f"--config.data.dir={tmp_path}/none"
    output = runs.run(tmp_path / "run", missing, mode="preview", expect=1)
    assert output.startswith("error: no prepared data set in ")
    assert "prepare it with --mode=prepare and the same --config flags" in output
    assert not (tmp_path / "run").exists()
