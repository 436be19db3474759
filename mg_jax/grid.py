"""Sampling grids and the coarse shapes that a multigrid cycle visits (paper, Sec. 3.1 and 3.2).

A mini-batch is `batch` clips of `frames` x `size` x `size` pixels. A coarse shape divides the
recipe's number of frames and its area and multiplies the batch by the same factor (Eq. 1),

    b = B * (T/t) * (H/h) * (W/w),

so that every iteration costs about the same. Divisors may be any numbers from 1 on: frames, pixels
and batches are the nearest whole ones.
"""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Shape:
    """A coarse shape, given by nominal divisors of the recipe's grid.

    Attributes:
      time: T / t, the divisor of the number of frames; the paper's are 1, 2 and 4.
      area: (H / h)^2, the divisor of the area; the paper's are 1, 2 (h = H / sqrt 2) and
        4 (h = H / 2).
    """

    time: float
    area: float

    @property
    def factor(self) -> float:
        """b / B by Eq. 1, before rounding."""
        return self.time * self.area


FULL = Shape(time=1, area=1)

# The long cycle's base shapes, coarse to fine (Sec. 3.2, Fig. 2).
LONG_CYCLE = (Shape(4, 2), Shape(2, 2), Shape(2, 1), FULL)

# The short cycle's areas for i mod 3 = 0 and 1; the last shape is the base shape itself.
SHORT_CYCLE_AREAS = (4, 2)
SHORT_SHAPES = len(SHORT_CYCLE_AREAS) + 1


@dataclasses.dataclass(frozen=True)
class Grid:
    """What one iteration samples: `batch` clips of `frames` x `size` x `size`.

    Attributes:
      frames: t, frames of a clip.
      size: h = w, pixels.
      batch: b, clips over all devices.
      sub_batch: clips that share one set of batch-norm statistics.
      strides: smallest and largest stride between the frames of a clip, in source frames.
      short_sides: smallest and largest length to which a video's short side is scaled before the
        crop, in pixels.
    """

    frames: int
    size: int
    batch: int
    sub_batch: int
    strides: tuple[int, int]
    short_sides: tuple[float, float]

    def __str__(self) -> str:
        return format_grid(vars(self))


def format_grid(grid: dict[str, Any], *, sub_batch: bool = False) -> str:
    """Clips, frames and pixels of a grid, such as `64 x 16 x 112^2`.

    Args:
      grid: the attributes of a `Grid`, by name, as results keep them.
      sub_batch: whether to add how many clips share batch-norm statistics, `... / 8`.
    """
    text = f"{grid['batch']} x {grid['frames']} x {grid['size']}^2"
    return f"{text} / {grid['sub_batch']}" if sub_batch else text


@dataclasses.dataclass(frozen=True)
class BaseGrid:
    """The recipe's grid B x T x H x W and how clips are sampled for it.

    Attributes:
      batch: B, clips.
      frames: T.
      size: H = W, pixels.
      sub_batch: clips that share batch-norm statistics; 0 for all clips of an iteration.
      stride: tau, in source frames.
      short_sides: jitter range of a video's short side at full size, in pixels.
    """

    batch: int
    frames: int
    size: int
    sub_batch: int
    stride: int
    short_sides: tuple[float, float]

    def at(self, shape: Shape, base_area: int) -> Grid:
        """The grid of a coarse shape.

        The sub-batch grows with the short cycle's batch multiple and not with the long cycle's
        (Sec. 3.3); strides range from tau to tau * T/t, and the lower end of the jitter range
        shrinks with the crop (Sec. 3.1). The sub-batch is a multiple of the recipe's, the batch a
        multiple of the sub-batch.

        Args:
          shape: divisors of time and area.
          base_area: the area divisor of the long-cycle shape that `shape` is a short-cycle variant
            of.
        """
        frames, size = self.frames_at(shape), self.size_at(shape)
        unit = self.sub_batch * max(round(shape.area / base_area), 1) or 1
        batch = max(round(self.batch * shape.factor / unit), 1) * unit
        smallest, largest = self.short_sides
        return Grid(
            frames=frames,
            size=size,
            batch=batch,
            sub_batch=unit if self.sub_batch else batch,
            strides=(self.stride, self.stride * self.frames // frames),
            short_sides=(smallest * size / self.size, largest),
        )

    def frames_at(self, shape: Shape) -> int:
        """t, the nearest whole number to T / time."""
        return round(self.frames / shape.time)

    def size_at(self, shape: Shape) -> int:
        """h, the nearest whole number to H / sqrt(area)."""
        return round(self.size / math.sqrt(shape.area))

    def excess(self, grid: Grid) -> float:
        """Pixels of an iteration on a grid relative to the base grid's, minus 1: 0 by Eq. 1."""
        pixels = self.batch * self.frames * self.size**2
        return grid.batch * grid.frames * grid.size**2 / pixels - 1


def short_cycle(base: Shape, count: int) -> tuple[Shape, ...]:
    """The short cycle's shapes around a long-cycle shape: the last `count` of H/2, H/sqrt 2, base.

    H is always the recipe's full size. Where the base size is already H / sqrt 2, the last two
    coincide (Sec. 3.2).
    """
    coarser = (Shape(base.time, max(area, base.area)) for area in SHORT_CYCLE_AREAS)
    return (*coarser, base)[-count:]
