"""A contact sheet of what the network will see: the first clips of every grid of the schedule."""

import dataclasses
import itertools
import pathlib
import re

import numpy as np
from PIL import Image

from mg_jax.grid import Grid
from mg_jax.input.datasets import DataSource, Split, open_source
from mg_jax.input.pipeline import read_clips
from mg_jax.input.sampling import Augmentation, training_augmentation
from mg_jax.machine.atomic_file import replaced
from mg_jax.machine.fonts import Writer, say_missing
from mg_jax.recipe import schedule_from_config, variant
from mg_jax.schedule import Schedule
from mg_jax.training.augment.batch import pixels
from mg_jax.training_settings import check_parts

_CLIPS = 2  # shown of a grid
_FRAMES = 8  # shown of a clip

# Pixels.
FRAME_GAP = 2
_CLIP_GAP = 24
_MARGIN = 32
_NARROWEST = 460  # least width of a clip's text
_WIDEST = 1936  # of clips side by side; wider ones go below each other

_BACKGROUND, _LINE = (18, 20, 24), (52, 57, 66)
_WHITE, _GREY, _AMBER = (240, 242, 245), (156, 163, 175), (255, 200, 87)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip and what is written over it.

    Attributes:
      frames_THWC: those that are shown, as the network sees them, uint8.
      classes: names.
      notes: where in which video it comes from.
    """

    frames_THWC: np.ndarray
    classes: str
    notes: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A grid, in words, and its clips."""

    title: str
    notes: str
    clips: list[Clip]


def write_preview(config, workdir: pathlib.Path) -> str:
    """Writes `workdir/preview.png` and returns what it shows. Needs the prepared data set.

    Raises:
      UserError: for invalid settings or data, before anything is written.
    """
    schedule = schedule_from_config(config)
    check_parts(config, schedule, devices=1)
    source = open_source(config)
    sections = read_sections(config, schedule, source)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "preview.png"
    heading = _heading(config, schedule, source)
    with replaced(path) as unfinished:
        draw(heading, sections).save(unfinished, "PNG")
    damaged = len(source.train.damaged)
    note = f"; damaged videos, replaced by others: {damaged}" if damaged else ""
    words = [f"{clip.classes}{clip.notes}" for section in sections for clip in section.clips]
    if missing := say_missing([heading, *words]):
        note += f"; {missing}"
    return f"see {path}, the first clips of each grid{note}; --mode=train trains on them"


def read_sections(config, schedule: Schedule, source: DataSource) -> list[Section]:
    """The first clips of each grid's first batch, in order of first use."""
    augmentation = training_augmentation(config.data, config.seed)
    sections = []
    for grid, step in _first_iterations(schedule).items():
        clips = _first_clips(config, source, augmentation, grid, schedule.position(step))
        sections.append(Section(str(grid), _grid_notes(augmentation, grid, step), clips))
    return sections


def _first_iterations(schedule: Schedule) -> dict[Grid, int]:
    """The distinct grids in order of first use, and the iteration of that."""
    steps, step = {}, 0
    for grid in schedule.grids_from(0):
        step = next(i for i in itertools.count(step) if schedule.grid(i) == grid)
        steps[grid] = step
    return steps


def _first_clips(
    config, source: DataSource, augmentation: Augmentation, grid: Grid, position: int
) -> list[Clip]:
    """The first clips of the batch at a position, as training reads and changes them.

    Raises:
      DataError: if too many videos are damaged.
    """
    # A clip depends on its position and not on how many share its batch.
    count = min(grid.batch, _CLIPS)
    read = read_clips(source.train, augmentation, grid, position, count)
    source.train.damaged.check()
    position_B = (position + np.arange(count)).astype(np.uint32)
    batch = {"clips": read["clips"], "flip": read["flip_B"], "label": read["label"]}
    clips_BTHWC, _ = pixels(config, grid.batch, {**batch, "position": position_B}, config.seed)
    seen_BTHWC = np.rint(np.asarray(clips_BTHWC)[:, _shown(grid.frames)]).astype(np.uint8)
    return [
        Clip(
            frames_THWC=seen_BTHWC[b],
            classes=_class_names(read["label"][b], source.classes),
            notes=_clip_notes(source.train, augmentation, grid, read, b),
        )
        for b in range(count)
    ]


def _shown(frames: int) -> np.ndarray:
    """Which of a clip's frames: at most _FRAMES, evenly spread."""
    shown = min(frames, _FRAMES)
    return np.arange(shown) * frames // shown


def _class_names(label: np.ndarray, classes: list[str]) -> str:
    """The names of a label: the index of a class, or `K` 0 and 1."""
    marked = np.flatnonzero(label) if label.ndim else [label]
    return " · ".join(classes[k] for k in marked) or "no label"


def _clip_notes(
    split: Split, augmentation: Augmentation, grid: Grid, read: dict[str, np.ndarray], b: int
) -> str:
    videos, row, frames_T = split.videos, read["rows_B"][b], read["frames_BT"][b]
    frames = f"frames {frames_T[0]}-{frames_T[-1]} of {videos.source_frames[row]}"
    if not augmentation.segments and len(frames_T) > 1:
        frames += f", stride {frames_T[1] - frames_T[0]}"
    if frames_T[-1] >= videos.source_frames[row]:
        frames += ", the last repeated"
    # Crops are rounded to whole stored pixels.
    short_side = grid.size * min(videos.height[row], videos.width[row]) / read["boxes_B3"][b, 2]
    flipped = "flipped" if read["flip_B"][b] else "not flipped"
    return f"{videos.ids[row]} · {frames} · short side {short_side:.0f} px · {flipped}"


def _grid_notes(augmentation: Augmentation, grid: Grid, step: int) -> str:
    frames = f"a frame of each of {grid.frames} parts"
    if not augmentation.segments:
        frames = f"stride {_range(*grid.strides)}"
    notes = [
        frames,
        f"short side {_range(*map(round, grid.short_sides))} px",
        f"sub-batch {grid.sub_batch}",
        f"first iteration {step:,}",
    ]
    if grid.frames > _FRAMES:
        notes.append(f"{_FRAMES} of {grid.frames} frames shown")
    return " · ".join(notes)


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}-{high}"


def _heading(config, schedule: Schedule, source: DataSource) -> str:
    base = schedule.recipe.base
    return (
        f"{config.data.name}, {config.data.train_split}: {len(source.train.videos):,} videos, "
        f"{len(source.classes):,} classes · {variant(config)}, "
        f"base grid {base.batch} x {base.frames} x {base.size}^2 · the first clips of each grid's "
        "first batch, pixel by pixel as the network sees them"
    )


def draw(heading: str, sections: list[Section]) -> Image.Image:
    """The sheet, grid by grid, clips pixel by pixel."""
    rows = [_clips_image(section.clips) for section in sections]
    width = max(2 * _NARROWEST + _CLIP_GAP, *(image.width for image in rows))
    parts = [_text("What the network sees", 32, _WHITE, width), _text(heading, 16, _GREY, width)]
    for section, clips in zip(sections, rows, strict=True):
        title = _text(section.title, 24, _WHITE, width)
        notes = _text(section.notes, 16, _GREY, width)
        line = Image.new("RGB", (width, 1), _LINE)
        parts.append(_column([line, _column([title, notes], 4), clips], 16))
    inner = _column([_column(parts[:2], 8), *parts[2:]], 28)
    size = inner.width + 2 * _MARGIN, inner.height + 2 * _MARGIN
    sheet = Image.new("RGB", size, _BACKGROUND)
    sheet.paste(inner, (_MARGIN, _MARGIN))
    return sheet


def _clips_image(clips: list[Clip]) -> Image.Image:
    """The clips of a grid, side by side where there is room."""
    images = [_clip_image(clip) for clip in clips]
    across = _row(images, _CLIP_GAP)
    return across if across.width <= _WIDEST else _column(images, _CLIP_GAP)


def _clip_image(clip: Clip) -> Image.Image:
    frames = _row([Image.fromarray(frame_HWC) for frame_HWC in clip.frames_THWC], FRAME_GAP)
    width = max(frames.width, _NARROWEST)
    words = [_text(clip.classes, 16, _AMBER, width), _text(clip.notes, 14, _GREY, width)]
    return _column([_column(words, 2), frames], 8)


def _text(text: str, size: int, colour: tuple[int, int, int], width: int) -> Image.Image:
    """Text, wrapped to a width at blanks and within paths."""
    writer = Writer(size)
    lines = [""]
    for word in re.split(r"(?<=[ /_])", text):
        # Some scripts have no blanks, and some names neither.
        for part in [word] if writer.width(word) <= width else word:
            longer = lines[-1] + part
            fits = writer.width(longer.rstrip()) <= width
            lines[-1:] = [longer] if fits else [lines[-1], part]
    height = round(1.3 * size)
    image = Image.new("RGB", (width, height * len(lines)), _BACKGROUND)
    for i, line in enumerate(lines):
        writer.draw(image, 0, i * height, line, colour)
    return image


def _row(images: list[Image.Image], gap: int) -> Image.Image:
    """From left to right, tops aligned."""
    width = sum(image.width + gap for image in images) - gap
    out = Image.new("RGB", (width, max(image.height for image in images)), _BACKGROUND)
    for i, image in enumerate(images):
        out.paste(image, (sum(left.width + gap for left in images[:i]), 0))
    return out


def _column(images: list[Image.Image], gap: int) -> Image.Image:
    """From top to bottom, left edges aligned."""
    height = sum(image.height + gap for image in images) - gap
    out = Image.new("RGB", (max(image.width for image in images), height), _BACKGROUND)
    for i, image in enumerate(images):
        out.paste(image, (0, sum(above.height + gap for above in images[:i])))
    return out
