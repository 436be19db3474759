import collections
import dataclasses
import itertools
import json
import math
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_jax.errors import UserError
from mg_jax.grid import FULL, LONG_CYCLE, BaseGrid, Shape
from mg_jax.schedule import Multigrid, Recipe, baseline_schedule, multigrid_schedule

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "kinetics_slowfast_schedule.json"


def make_recipe(batch, frames, size, steps, iterations, **settings):
    base = BaseGrid(batch, frames, size, 8, stride=2, short_sides=(256 / 224 * size, 340))
    return Recipe(base, 1.0, steps, iterations, **settings)


KINETICS_SLOWFAST = make_recipe(512, 32, 224, (44_000, 72_000, 92_000), 112_000)
KINETICS_I3D = make_recipe(256, 16, 224, (37_500, 75_000), 100_000)
SSV2 = make_recipe(16, 64, 224, (150_000, 190_000), 230_000)
CHARADES = make_recipe(16, 64, 224, (20_000, 24_000), 28_000)

VARIANTS = [
    Multigrid(LONG_CYCLE[-long_shapes:], short_shapes, single, fine_tuning, factor)
    for long_shapes, short_shapes, (single, fine_tuning), factor in itertools.product(
        (1, 2, 3, 4), (1, 2, 3), ((False, True), (False, False), (True, True)), (1.0, 1.5, 2.0)
    )
]


def test_kinetics_slowfast_schedule_is_the_golden_one():
    golden = json.loads(GOLDEN.read_text())
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid())
    assert schedule.iterations == golden["total_iterations"] == 32_686
    assert len(schedule.phases) == len(golden["phases"])
    for phase, expected in zip(schedule.phases, golden["phases"], strict=True):
        assert (phase.stage, phase.start, phase.end) == tuple(
            expected[key] for key in ("stage", "start", "end")
        )
        assert phase.lr_multiplier == pytest.approx(expected["lr_multiplier"], rel=1e-12)
        assert [
            {"frames": g.frames, "size": g.size, "batch": g.batch, "bn": g.sub_batch}
            for g in phase.grids
        ] == expected["short_cycle"]


@pytest.mark.parametrize(
    ("recipe", "factor", "iterations", "reduction"),
    [
        (KINETICS_SLOWFAST, 1.5, 32_686, 3.43),
        (KINETICS_I3D, 1.5, 30_638, 3.26),
        (SSV2, 1.0, None, 5.16),
        (SSV2, 1.5, 66_915, 3.44),
        (SSV2, 2.0, None, 2.58),
        (CHARADES, 1.0, None, 5.26),
        (CHARADES, 1.5, 7_982, 3.51),
        (CHARADES, 2.0, None, 2.63),
    ],
)
def test_iterations_of_the_papers_recipes(recipe, factor, iterations, reduction):
    schedule = multigrid_schedule(recipe, Multigrid(epoch_factor=factor))
    assert iterations in (None, schedule.iterations)
    assert round(recipe.iterations / schedule.iterations, 2) == reduction


@pytest.mark.parametrize("recipe", [KINETICS_SLOWFAST, KINETICS_I3D, SSV2, CHARADES])
def test_laws_hold_for_every_variant(recipe):
    for cycles in VARIANTS:
        assert_laws(recipe, cycles)


def assert_laws(recipe, cycles):
    """As many clips as the epoch factor says, Eq. 1 for every grid, shapes of equal length."""
    schedule = multigrid_schedule(recipe, cycles)
    base = recipe.base
    largest = max(grid.batch for grid in schedule.grids_from(0))
    expected = cycles.epoch_factor * recipe.iterations * base.batch
    assert abs(schedule.clips - expected) <= largest * len(schedule.phases)
    for grid in schedule.grids_from(0):
        # Rounding of t and h moves each by at most one half.
        nominal = base.batch * base.frames * base.size**2
        volume = grid.batch * grid.frames * grid.size**2
        assert volume == pytest.approx(nominal, rel=1.01 / grid.size)
        assert grid.batch % base.batch == 0
    assert_contiguous(schedule)
    assert_shapes_share_iterations(schedule, cycles)


def assert_contiguous(schedule):
    assert schedule.phases[0].start == 0
    for before, after in itertools.pairwise(schedule.phases):
        assert after.start == before.end
        assert after.first_position == before.first_position + before.clips_before(before.end)


def assert_shapes_share_iterations(schedule, cycles):
    """Every long-cycle shape runs equally long within a stage, or within the single cycle."""
    fine_tuned = cycles.fine_tuning and not cycles.single_cycle
    last = schedule.phases[-1].stage if fine_tuned else math.inf
    lengths = {}
    for phase in schedule.phases:
        if phase.stage < last:
            stage = 0 if cycles.single_cycle else phase.stage
            key = stage, phase.grids[-1]
            lengths[key] = lengths.get(key, 0) + phase.end - phase.start
    for stage in {stage for stage, _ in lengths}:
        of_stage = [length for (s, _), length in lengths.items() if s == stage]
        assert len(of_stage) == len(cycles.shapes)
        assert max(of_stage) - min(of_stage) <= (2 if not cycles.single_cycle else 3)


def test_long_cycle_without_a_short_one_runs_the_base_shapes():
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid(short_shapes=1))
    assert [phase.grids[0].batch for phase in schedule.phases[:4]] == [4096, 2048, 1024, 512]
    assert all(len(phase.grids) == 1 and phase.grids[0].sub_batch == 8 for phase in schedule.phases)


def test_short_cycle_alone_keeps_all_frames_and_the_full_learning_rate():
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid(shapes=(FULL,)))
    assert [(g.batch, g.size) for g in schedule.phases[0].grids] == [
        (2048, 112),
        (1024, 158),
        (512, 224),
    ]
    multipliers = [phase.lr_multiplier for phase in schedule.phases]
    assert multipliers == pytest.approx([1, 0.1, 0.01, 0.01, 0.001])


def test_short_cycle_follows_the_iteration_number():
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid())
    for step in (0, 1, 2, 3_209, 3_210, 12_840, 12_841, 32_685):
        phase = schedule.phase(step)
        assert phase.start <= step < phase.end
        assert schedule.grid(step) == phase.grids[step % 3]


def test_batch_norm_takes_whole_batches_where_asked_to():
    base = dataclasses.replace(KINETICS_SLOWFAST.base, sub_batch=0)
    recipe = dataclasses.replace(KINETICS_SLOWFAST, base=base)
    for schedule in (multigrid_schedule(recipe, Multigrid()), baseline_schedule(recipe)):
        assert all(grid.sub_batch == grid.batch for grid in schedule.grids_from(0))


def test_rate_follows_the_short_cycle_only_where_asked_to():
    recipe = dataclasses.replace(
        KINETICS_SLOWFAST, warmup_iterations=16_000, warmup_learning_rate=0.002
    )
    plain = multigrid_schedule(recipe, Multigrid())
    scaled = multigrid_schedule(recipe, Multigrid(short_cycle_rate=True))
    for phase in plain.phases:
        # H/2 and H / sqrt 2 against the phase's own size, which is the latter or H.
        multiples = (4, 2, 1) if phase.grids[-1].size == 224 else (2, 1, 1)
        for i in range(phase.start, phase.start + 3):
            ratio = scaled.learning_rate(i) / plain.learning_rate(i)
            assert ratio == pytest.approx(multiples[i % 3])


@pytest.mark.parametrize(
    "cycles", [Multigrid(), Multigrid(LONG_CYCLE[-2:], 2), Multigrid(single_cycle=True)]
)
def test_positions_are_the_running_sum_of_batches(cycles):
    recipe = make_recipe(16, 8, 32, (400, 600, 700), 800)
    schedule = multigrid_schedule(recipe, cycles)
    position = 0
    for step in range(schedule.iterations):
        assert schedule.position(step) == position
        position += schedule.grid(step).batch
    assert schedule.position(schedule.iterations) == schedule.clips == position


def test_baseline_is_the_recipe():
    schedule = baseline_schedule(KINETICS_SLOWFAST)
    assert schedule.iterations == 112_000
    assert [phase.end for phase in schedule.phases] == [44_000, 72_000, 92_000, 112_000]
    assert {schedule.grid(i).batch for i in (0, 1, 2, 111_999)} == {512}
    assert schedule.learning_rate(100_000) == pytest.approx(1e-3)


def test_shortened_baseline_scales_every_stage():
    schedule = baseline_schedule(KINETICS_SLOWFAST, 1 / 3.4)
    assert [phase.end for phase in schedule.phases] == [
        round(end / 3.4) for end in (44_000, 72_000, 92_000, 112_000)
    ]


def test_baseline_on_a_coarse_grid_sees_as_many_clips_with_linearly_scaled_rate():
    schedule = baseline_schedule(KINETICS_SLOWFAST, 1.0, Shape(time=4, area=2))
    grid = schedule.grid(0)
    assert (grid.batch, grid.frames, grid.size, grid.sub_batch) == (4096, 8, 158, 8)
    assert schedule.iterations == 14_000
    assert schedule.clips == 112_000 * 512
    assert schedule.learning_rate(0) == 8.0


def test_cosine_anneals_over_clips_and_keeps_the_linear_scaling():
    recipe = dataclasses.replace(KINETICS_SLOWFAST, cosine=True)
    schedule = multigrid_schedule(recipe, Multigrid(single_cycle=True))
    assert schedule.learning_rate(0) == 8.0
    for phase in schedule.phases:
        share = schedule.position(phase.start) / schedule.clips
        expected = phase.grids[-1].batch / 512 * (1 + math.cos(math.pi * share)) / 2
        assert schedule.learning_rate(phase.start) == pytest.approx(expected)
    assert schedule.learning_rate(schedule.iterations - 1) < 1e-8


def test_single_cycle_drops_the_rate_where_the_baseline_has_seen_the_same_share():
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid(single_cycle=True))
    for boundary, stage in zip(KINETICS_SLOWFAST.boundaries, (1, 2, 3), strict=True):
        first = next(phase for phase in schedule.phases if phase.stage == stage)
        assert first.first_position / schedule.clips == pytest.approx(boundary / 112_000, abs=1e-3)


@pytest.mark.parametrize("warmup", [160, 1_600, 16_000, 60_000])
def test_warmup_covers_the_baselines_clips_and_is_linear_in_them(warmup):
    recipe = dataclasses.replace(
        KINETICS_SLOWFAST, learning_rate=0.8, warmup_iterations=warmup, warmup_learning_rate=0.002
    )
    without = multigrid_schedule(dataclasses.replace(recipe, warmup_iterations=0), Multigrid())
    schedule = multigrid_schedule(recipe, Multigrid())
    end = next(i for i in range(schedule.iterations) if schedule.position(i) >= warmup * 512)
    target = without.learning_rate(end)
    assert schedule.learning_rate(0) == 0.002
    for step in range(0, end, max(end // 50, 1)):
        share = schedule.position(step) / (warmup * 512)
        assert schedule.learning_rate(step) == pytest.approx(0.002 + (target - 0.002) * share)
    for step in (end, end + 1, schedule.iterations - 1):
        assert schedule.learning_rate(step) == without.learning_rate(step)


def test_strides_and_short_sides_follow_the_grid():
    schedule = multigrid_schedule(KINETICS_SLOWFAST, Multigrid())
    coarsest, finest = schedule.grid(0), schedule.phases[-1].grids[-1]
    assert (coarsest.strides, finest.strides) == ((2, 8), (2, 2))
    assert coarsest.short_sides == (256 * 112 / 224, 340)
    assert finest.short_sides == (256, 340)


def test_grids_from_lists_each_grid_once_in_order_of_first_use():
    schedule = multigrid_schedule(make_recipe(16, 8, 32, (40, 60), 80), Multigrid())
    for start in (0, 5, 20):
        used = [schedule.grid(i) for i in range(start, schedule.iterations)]
        assert list(schedule.grids_from(start)) == list(dict.fromkeys(used))


def test_steps_outside_the_run_are_refused():
    schedule = baseline_schedule(CHARADES)
    with pytest.raises(UserError, match="step 28001 is outside the schedule"):
        schedule.position(28_001)


def test_a_recipe_too_short_for_one_iteration_is_refused():
    with pytest.raises(UserError, match="a recipe of 2 iterations is too short"):
        multigrid_schedule(make_recipe(8, 8, 32, (1,), 2), Multigrid(epoch_factor=1.0))


@settings(max_examples=60, deadline=None)
@given(
    stages=st.lists(st.integers(1, 400), min_size=2, max_size=5).filter(lambda n: sum(n) > 9),
    cycles=st.sampled_from(VARIANTS),
    warmup=st.floats(0, 1),
)
def test_short_runs_neither_fail_nor_lose_clips(stages, cycles, warmup):
    *steps, iterations = itertools.accumulate(stages)
    recipe = make_recipe(8, 8, 32, tuple(steps), iterations)
    recipe = dataclasses.replace(recipe, warmup_iterations=int(warmup * iterations))
    schedule = multigrid_schedule(recipe, cycles)
    largest = 8 * LONG_CYCLE[0].time * 4
    expected = cycles.epoch_factor * iterations * 8
    assert abs(schedule.clips - expected) <= largest * max(len(schedule.phases), 1)
    for step in range(schedule.iterations):
        assert math.isfinite(schedule.learning_rate(step))
        assert schedule.learning_rate(step) >= 0


@pytest.mark.parametrize("recipe", [KINETICS_SLOWFAST, KINETICS_I3D])
@pytest.mark.parametrize("end", [None, 0, 1, 10_000])
def test_iterations_are_counted_by_grid(recipe, end):
    schedule = multigrid_schedule(recipe, Multigrid())
    steps = range(schedule.iterations if end is None else end)
    expected = collections.Counter(schedule.grid(i) for i in steps)
    assert schedule.grid_counts(end) == expected
