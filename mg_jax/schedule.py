"""From a recipe to step -> (grid, learning rate): the multigrid schedule (paper, Sec. 3.2).

The schedule counts in iterations. With n_1 ... n_L the lengths of the baseline's stages (pieces of
constant learning rate), N their sum, and avg_k the mean batch multiple, in units of B, over the
short cycle in shape k:

 1. each shape of a cycled stage l < L runs n_l / sum_k avg_k iterations;
 2. fine-tuning, which takes the place of stage L, runs n_L / r iterations, r = sum_k avg_k / S,
    on the full shape: its first half with stage L-1's learning rate, its second with stage L's;
 3. everything is multiplied by x, such that f * N * B clips are trained on in total, or such that
    the run has the iterations asked for;
 4. boundaries are the rounded running sums.

Where fine-tuning has another share p of stage L than all of it, p n_L takes the place of n_L in
step 2, and n_{L-1} + (1 - p) n_L that of n_{L-1} in step 1.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator

from mg_jax import grid as grid_lib
from mg_jax.errors import UserError
from mg_jax.grid import BaseGrid, Grid, Shape


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The baseline's recipe; an iteration is one of B clips.

    Attributes:
      base: the base grid B x T x H x W.
      learning_rate: of the first stage on the base grid.
      boundaries: iterations at which a new stage begins, ascending.
      iterations: N, length of the baseline.
      decay: factor of the learning rate from stage to stage.
      cosine: anneal with half a cosine over the clips of the run instead of in steps.
      warmup_iterations: iterations of the baseline's linear warm-up.
      warmup_learning_rate: learning rate at which the warm-up starts.
    """

    base: BaseGrid
    learning_rate: float
    boundaries: tuple[int, ...]
    iterations: int
    decay: float = 0.1
    cosine: bool = False
    warmup_iterations: int = 0
    warmup_learning_rate: float = 0.0

    @property
    def stages(self) -> tuple[int, ...]:
        """n_1 ... n_L, iterations of each stage."""
        edges = (0, *self.boundaries, self.iterations)
        return tuple(end - start for start, end in itertools.pairwise(edges))


@dataclasses.dataclass(frozen=True)
class Multigrid:
    """The paper's cycles and their variants.

    Attributes:
      shapes: of the long cycle, from coarse to fine; the full shape alone means no long cycle.
      short_shapes: how many of its shapes, the last ones, the short cycle has; 1 means no short
        cycle.
      single_cycle: one long cycle over the whole run, without fine-tuning, instead of one per
        stage.
      fine_tuning: train the last stage on the full shape; otherwise all L stages are cycled.
      epoch_factor: f, epochs relative to the baseline's.
      short_cycle_rate: multiply the learning rate by the short cycle's batch multiple too, which
        the paper found harmful.
      iterations: of the whole run; 0 for as many as the epoch factor makes.
      fine_tuning_share: p, the iterations of the baseline that fine-tuning stands for, relative to
        those of the last stage.
    """

    shapes: tuple[Shape, ...] = grid_lib.LONG_CYCLE
    short_shapes: int = grid_lib.SHORT_SHAPES
    single_cycle: bool = False
    fine_tuning: bool = True
    epoch_factor: float = 1.5
    short_cycle_rate: bool = False
    iterations: int = 0
    fine_tuning_share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """Consecutive iterations with one long-cycle shape and one stage's learning rate.

    Attributes:
      stage: index of the learning-rate stage.
      start: index of the first iteration.
      end: index after the last iteration.
      grids: the short cycle; iteration i trains on grids[i mod len(grids)].
      lr_multiplier: learning rate relative to the recipe's: the long cycle's batch multiple, times
        the stage's decay unless a cosine takes its place.
      first_position: clips trained on before this phase.
    """

    stage: int
    start: int
    end: int
    grids: tuple[Grid, ...]
    lr_multiplier: float
    first_position: int

    def clips_before(self, step: int) -> int:
        """Number of clips in the iterations [start, step) of this phase."""
        cycles, rest = divmod(step - self.start, len(self.grids))
        partial = sum(self.grid(self.start + i).batch for i in range(rest))
        return cycles * sum(g.batch for g in self.grids) + partial

    def grid(self, step: int) -> Grid:
        """The grid of iteration `step`."""
        return self.grids[step % len(self.grids)]

    def steps_on(self, index: int) -> range:
        """The iterations of this phase that train on `grids[index]`."""
        count = len(self.grids)
        return range(self.start + (index - self.start) % count, self.end, count)


class TooShort(UserError):
    """A schedule, or one of its learning-rate stages, has no iterations."""


class Schedule:
    """step -> (grid, learning rate, position of the first clip), each in O(log phases).

    Attributes:
      recipe: the recipe that is scheduled.
      phases: in order, without gaps.
      short_cycle_rate: whether learning rates are multiplied by the short cycle's batch multiple.
    """

    def __init__(self, recipe: Recipe, phases: Iterable[Phase], short_cycle_rate: bool = False):
        """Takes the attributes.

        Raises:
          TooShort: if there are no phases.
        """
        self.recipe = recipe
        self.short_cycle_rate = short_cycle_rate
        self.phases = tuple(phases)
        if not self.phases:
            raise TooShort(
                f"a recipe of {recipe.iterations} iterations is too short: no iteration remains"
            )
        self._starts = [phase.start for phase in self.phases]

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return self.phases[-1].end

    @functools.cached_property
    def clips(self) -> int:
        """Clips that the whole run trains on, counting repetitions."""
        return self.position(self.iterations)

    def phase(self, step: int) -> Phase:
        """The phase of iteration `step`; at the end of the run, the last phase.

        Raises:
          UserError: if the schedule has no such step.
        """
        if not 0 <= step <= self.iterations:
            raise UserError(f"step {step} is outside the schedule's 0 ... {self.iterations}")
        return self.phases[bisect.bisect_right(self._starts, step) - 1]

    def grid(self, step: int) -> Grid:
        """The grid that iteration `step` trains on."""
        return self.phase(step).grid(step)

    def position(self, step: int) -> int:
        """P(step): clips trained on before iteration `step`."""
        phase = self.phase(step)
        return phase.first_position + phase.clips_before(step)

    def grid_counts(self, end: int | None = None) -> dict[Grid, int]:
        """Number of iterations on each grid before `end`; None means the end of the run."""
        end = self.iterations if end is None else end
        counts: dict[Grid, int] = {}
        for phase in self.phases:
            for index, grid in enumerate(phase.grids):
                steps = phase.steps_on(index)
                before = range(steps.start, min(end, phase.end), steps.step)
                counts[grid] = counts.get(grid, 0) + len(before)
        return {grid: count for grid, count in counts.items() if count}

    def learning_rate(self, step: int) -> float:
        """The learning rate of iteration `step`.

        The warm-up covers as many clips as the baseline's and rises linearly in clips, to the rate
        that is scheduled at its end.
        """
        rate = self._long_cycle_rate(step)
        if self.short_cycle_rate:
            grids = self.phase(step).grids
            rate *= self.grid(step).batch / grids[-1].batch
        return rate

    def _long_cycle_rate(self, step: int) -> float:
        recipe = self.recipe
        warmup_clips = recipe.warmup_iterations * recipe.base.batch
        position = self.position(step)
        if position >= warmup_clips:
            return self._annealed(step, position)
        target = self._warmup_target
        start = recipe.warmup_learning_rate
        return start + (target - start) * position / warmup_clips

    def grids_from(self, step: int) -> Iterator[Grid]:
        """The distinct grids of the iterations from `step` on, in order of first use."""
        seen = set()
        for phase in self.phases:
            first = max(step, phase.start)
            for i in range(first, min(first + len(phase.grids), phase.end)):
                grid = phase.grid(i)
                if grid not in seen:
                    seen.add(grid)
                    yield grid

    def _annealed(self, step: int, position: int) -> float:
        rate = self.recipe.learning_rate * self.phase(step).lr_multiplier
        if self.recipe.cosine:
            rate *= 0.5 * (1 + math.cos(math.pi * position / self.clips))
        return rate

    @functools.cached_property
    def _warmup_target(self) -> float:
        clips = self.recipe.warmup_iterations * self.recipe.base.batch
        index = bisect.bisect_right([p.first_position for p in self.phases], clips) - 1
        phase = self.phases[index]
        cycles, clips_left = divmod(clips - phase.first_position, sum(g.batch for g in phase.grids))
        step = phase.start + cycles * len(phase.grids)
        while clips_left > 0:
            clips_left -= phase.grid(step).batch
            step += 1
        step = min(step, self.iterations)
        return self._annealed(step, self.position(step))


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A phase before rounding: one long-cycle shape within one stage, and its iterations."""

    stage: int
    lr_stage: int
    shape: Shape
    iterations: float


def baseline_schedule(
    recipe: Recipe,
    epoch_factor: float = 1.0,
    shape: Shape = grid_lib.FULL,
    iterations: int = 0,
) -> Schedule:
    """The baseline on the base grid, or on one fixed coarser grid.

    On a coarser grid the batch and the learning rate are multiplied by the factor of Eq. 1 and the
    iterations are divided by it, so that the number of clips stays the same.

    Args:
      recipe: of the baseline.
      epoch_factor: epochs relative to the recipe's; 1 / 3.4 is the paper's shortened baseline.
      shape: divisors of the fixed grid.
      iterations: of the whole run; 0 for as many as the epoch factor makes.

    Raises:
      TooShort: if no iteration remains.
    """
    grid = recipe.base.at(shape, shape.area)
    factor = grid.batch / recipe.base.batch
    pieces = [
        _Piece(stage, stage, shape, n * epoch_factor / factor)
        for stage, n in enumerate(recipe.stages)
    ]
    if iterations:
        pieces = _scaled(pieces, iterations / sum(piece.iterations for piece in pieces))
    return Schedule(recipe, _phases(recipe, pieces, {shape: (grid,)}))


def multigrid_schedule(recipe: Recipe, cycles: Multigrid) -> Schedule:
    """The schedule of the long and short cycles, by the module's steps 1 to 4.

    Raises:
      UserError: if the recipe has no stage to cycle.
      TooShort: if no iteration remains.
    """
    shapes, base = cycles.shapes, recipe.base
    grids = {
        shape: tuple(
            base.at(s, shape.area) for s in grid_lib.short_cycle(shape, cycles.short_shapes)
        )
        for shape in shapes
    }
    avg = {
        shape: sum(grid.batch for grid in cycle) / (base.batch * len(cycle))
        for shape, cycle in grids.items()
    }
    if cycles.single_cycle:
        pieces = _single_cycle(recipe, shapes, avg)
    else:
        share = cycles.fine_tuning_share if cycles.fine_tuning else 0.0
        pieces = _cycle_per_stage(recipe, shapes, avg, share)
    if cycles.iterations:
        x = cycles.iterations / sum(piece.iterations for piece in pieces)
    else:
        clips = sum(piece.iterations * avg[piece.shape] for piece in pieces)  # in units of B
        x = cycles.epoch_factor * recipe.iterations / clips
    return Schedule(recipe, _phases(recipe, _scaled(pieces, x), grids), cycles.short_cycle_rate)


def _scaled(pieces: list[_Piece], x: float) -> list[_Piece]:
    """Step 3 of the module's docstring."""
    return [dataclasses.replace(piece, iterations=piece.iterations * x) for piece in pieces]


def _cycle_per_stage(
    recipe: Recipe, shapes: tuple[Shape, ...], avg: dict[Shape, float], share: float
) -> list[_Piece]:
    """Steps 1 and 2 of the module's docstring; without fine-tuning, the share is 0."""
    total, stages = sum(avg.values()), recipe.stages
    if not share:
        return [_Piece(l, l, shape, n / total) for l, n in enumerate(stages) for shape in shapes]
    if len(stages) < 2:
        raise UserError(
            "fine-tuning takes the place of the last learning-rate stage and leaves none to cycle: "
            "give at least one learning-rate step, or set multigrid.fine_tuning=False or "
            "multigrid.single_cycle=True"
        )
    *cycled, last = stages
    tuned = share * last
    cycled[-1] += last - tuned
    if cycled[-1] <= 0:
        raise TooShort(
            f"fine-tuning takes {tuned:g} iterations of the baseline and leaves none to the stage "
            "before it"
        )
    pieces = [_Piece(l, l, shape, n / total) for l, n in enumerate(cycled) for shape in shapes]
    l, half = len(cycled), tuned / (total / len(shapes)) / 2
    return [*pieces, _Piece(l, l - 1, shapes[-1], half), _Piece(l, l, shapes[-1], half)]


def _single_cycle(
    recipe: Recipe, shapes: tuple[Shape, ...], avg: dict[Shape, float]
) -> list[_Piece]:
    """One long cycle over the run; stages begin at the same share of the clips as the baseline's.

    Clips are counted in units of B; shape k covers avg_k / sum avg of them.
    """
    total = sum(avg.values())
    shape_ends = list(itertools.accumulate(avg[s] / total * recipe.iterations for s in shapes))
    stage_ends = list(itertools.accumulate(recipe.stages))
    # Both lists end at N; the sum of floats may miss it by a rounding error.
    shape_ends[-1] = stage_ends[-1]
    pieces, start = [], 0.0
    for end in sorted({*shape_ends, *stage_ends}):
        shape = shapes[bisect.bisect_left(shape_ends, end)]
        stage = bisect.bisect_left(stage_ends, end)
        pieces.append(_Piece(stage, stage, shape, (end - start) / avg[shape]))
        start = end
    return pieces


def _phases(
    recipe: Recipe, pieces: list[_Piece], grids: dict[Shape, tuple[Grid, ...]]
) -> Iterator[Phase]:
    """Rounds the running sum of iterations (step 4) and places each phase's first clip."""
    total, start, position = 0.0, 0, 0
    for piece in pieces:
        total += piece.iterations
        end = round(total)
        if end == start:
            continue
        decay = 1.0 if recipe.cosine else recipe.decay**piece.lr_stage
        phase = Phase(
            stage=piece.stage,
            start=start,
            end=end,
            grids=grids[piece.shape],
            lr_multiplier=grids[piece.shape][-1].batch / recipe.base.batch * decay,
            first_position=position,
        )
        position += phase.clips_before(end)
        start = end
        yield phase
