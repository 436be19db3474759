"""Long cycles of one's own shapes, lengths in iterations, and the length of fine-tuning."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import kinetics_i3d, kinetics_slowfast
from mg_jax.errors import UserError
from mg_jax.grid import FULL, LONG_CYCLE, BaseGrid, Shape
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.schedule import Multigrid, Recipe, multigrid_schedule
from mg_jax.tools.plan import write_plan
from mg_jax.tools.plan_plot import plan_figure, shape_colours
from mg_jax.workdir.config import stored_config
from tests.paper.test_recipe import config_with, run_main

SPACE_ONLY, TIME_ONLY = ((1, 2), (1, 1)), ((4, 1), (2, 1), (1, 1))
ODD = ((3, 3), (1.5, 1.5), (1, 1))


def schedule_of(recipe=kinetics_slowfast, variant="", **multigrid):
    changes = {f"multigrid.{name}": value for name, value in multigrid.items()}
    return schedule_from_config(config_with(recipe, variant, **changes))


def base_grids(schedule):
    grids = dict.fromkeys(phase.grids[-1] for phase in schedule.phases)
    return [(g.batch, g.frames, g.size, g.strides) for g in grids]


def test_shapes_are_divisors_of_the_frames_and_of_the_area():
    full = (512, 32, 224, (2, 2))
    assert base_grids(schedule_of(shapes=SPACE_ONLY)) == [(1024, 32, 158, (2, 2)), full]
    of_time = [(2048, 8, 224, (2, 8)), (1024, 16, 224, (2, 4)), full]
    assert base_grids(schedule_of(shapes=TIME_ONLY)) == of_time
    assert base_grids(schedule_of(shapes=((4, 1), (1, 1)))) == [of_time[0], full]


def test_divisors_that_are_no_powers_of_two_take_the_nearest_frames_pixels_and_sub_batches():
    schedule = schedule_of(kinetics_i3d, shapes=ODD)
    # 16 / 3, 224 / sqrt 3 and 256 * 9; 16 / 1.5, 224 / sqrt 1.5 and 256 * 2.25.
    assert base_grids(schedule) == [
        (2304, 5, 129, (4, 12)),
        (576, 11, 183, (4, 5)),
        (256, 16, 224, (4, 4)),
    ]
    coarsest = schedule.phases[0].grids
    assert [(g.size, g.sub_batch) for g in coarsest] == [(112, 8), (129, 8), (129, 8)]
    rate = schedule_from_config(config_with(kinetics_i3d)).recipe.learning_rate
    assert schedule.learning_rate(0) == pytest.approx(9 * rate)


shapes = st.lists(
    st.tuples(st.floats(1, 8), st.floats(1, 8)) | st.sampled_from(((2, 2), (4, 1), (1, 2), (3, 1))),
    max_size=4,
).map(lambda pairs: tuple(sorted({Shape(*p) for p in pairs} | {FULL}, key=lambda s: -s.factor)))


@settings(max_examples=80, deadline=None)
@given(
    shapes=shapes,
    short_shapes=st.integers(1, 3),
    stages=st.lists(st.integers(50, 900), min_size=2, max_size=4),
    share=st.sampled_from((0.25, 0.5, 1.0, 1.05)),
    single=st.booleans(),
    iterations=st.sampled_from((0, 500, 2_000)),
)
def test_laws_hold_for_shapes_of_ones_own(shapes, short_shapes, stages, share, single, iterations):
    base = BaseGrid(16, 32, 64, 8, stride=2, short_sides=(72, 96))
    edges = [sum(stages[: i + 1]) for i in range(len(stages))]
    recipe = Recipe(base, 1.0, tuple(edges[:-1]), edges[-1])
    if stages[-2] + (1 - share) * stages[-1] <= 0:
        share = 1.0
    cycles = Multigrid(shapes, short_shapes, single, iterations=iterations, fine_tuning_share=share)
    schedule = multigrid_schedule(recipe, cycles)
    for phase in schedule.phases:
        ratio = phase.lr_multiplier / (phase.grids[-1].batch / 16)
        assert any(ratio == pytest.approx(0.1**stage) for stage in range(len(stages)))
    for grid in schedule.grids_from(0):
        assert grid.sub_batch % 8 == grid.batch % grid.sub_batch == 0
        # The batch is the nearest multiple of the sub-batch; t and h move by one half each.
        rounding = grid.sub_batch / 2 / grid.batch + 0.5 / grid.frames + 1 / grid.size
        assert abs(base.excess(grid)) <= 1.2 * rounding
    positions = sum(schedule.grid(i).batch for i in range(schedule.iterations))
    assert schedule.clips == positions
    if iterations:
        assert schedule.iterations == iterations
    else:
        largest = max(grid.batch for grid in schedule.grids_from(0))
        assert abs(positions - 1.5 * edges[-1] * 16) <= largest * len(schedule.phases)


@pytest.mark.parametrize("share", [0.25, 1.0, 1.25])
def test_fine_tuning_takes_a_share_of_the_last_stage_and_the_stage_before_the_rest(share):
    schedule = schedule_of(fine_tuning_share=share)
    # By hand: avg_k of the four shapes with the short cycle, n_l of the recipe.
    avg = [(16 + 8 + 8) / 3, (8 + 4 + 4) / 3, (8 + 4 + 2) / 3, (4 + 2 + 1) / 3]
    cycled = [44_000, 28_000, 20_000 + (1 - share) * 20_000]
    tuned = share * 20_000 / (sum(avg) / 4)
    pieces = [n / sum(avg) for n in cycled for _ in avg] + [tuned / 2, tuned / 2]
    clips = sum(n / sum(avg) * sum(avg) for n in cycled) + tuned * avg[-1]
    ends = [round(1.5 * 112_000 / clips * sum(pieces[: i + 1])) for i in range(len(pieces))]
    assert [phase.end for phase in schedule.phases] == pytest.approx(ends, abs=1)
    rates = [phase.lr_multiplier for phase in schedule.phases[-2:]]
    assert rates == pytest.approx([0.01, 0.001])


TABLE_1 = {
    "short cycle only": {"long_cycle": False},
    "2 shapes": {"shapes": ((2, 1), (1, 1))},
    "3 shapes": {"shapes": ((2, 2), (2, 1), (1, 1))},
    "long cycle only": {"short_cycle": False},
    "2 short shapes": {"short_shapes": 2},
    "default": {},
}


@pytest.mark.parametrize("variant", TABLE_1)
def test_variants_of_table_1_run_as_many_iterations_as_the_default(variant):
    schedule = schedule_of(**TABLE_1[variant], iterations=32_686)
    assert schedule.iterations == 32_686
    epochs = schedule.clips / (112_000 * 512)
    # Finer or fewer shapes have smaller batches, so they see fewer epochs in as many iterations.
    assert epochs == pytest.approx(1.5, 1e-3) if variant == "default" else epochs < 1.2


def test_the_baseline_is_cut_to_a_number_of_iterations():
    cut = schedule_from_config(config_with(variant="baseline", **{"baseline.iterations": 32_686}))
    assert [phase.end for phase in cut.phases] == [
        round(end * 32_686 / 112_000) for end in (44_000, 72_000, 92_000, 112_000)
    ]
    coarse = {"baseline.time_divisor": 4, "baseline.area_divisor": 2, "baseline.iterations": 9_999}
    assert schedule_from_config(config_with(variant="baseline", **coarse)).iterations == 9_999


REFUSED = [
    ({"shapes": ((3, 1), (1, 1))}, "divisors in multigrid.shapes: instead of 3, 2.667 (12 fra"),
    ({"shapes": ((3, 1), (1, 1))}, "or 4 (8 frames)"),
    ({"shapes": ((16, 1), (1, 1))}, "instead of 16, 8 (4 frames)"),
    ({"shapes": ((1, 500_000), (1, 1))}, "leaves 0 of size=224 pixels, and the network takes"),
    ({"shapes": ((1, 4 * 224**2), (1, 1))}, "1 x 1 pixels; use an area divisor of at most 50176"),
    ({"shapes": ((4, 2), (2, 1))}, "must end on the full shape, (1, 1), which fine-tuning trains"),
    ({"shapes": ((1, 1), (1, 2))}, "from coarse to fine, each shape once: ((1, 2), (1, 1))"),
    ({"shapes": ((2, 1), (2, 1), (1, 1))}, "must go from coarse to fine, each shape once"),
    ({"shapes": (4, 2)}, "must be pairs (time divisor, area divisor) of numbers from 1 on"),
    ({"shapes": ((0.5, 1), (1, 1))}, "numbers from 1 on, and (0.5, 1) is no such pair"),
    ({"shapes": ()}, "there is none; the paper's are ((4, 2), (2, 2), (2, 1), (1, 1))"),
    ({"iterations": -1}, "multigrid.iterations=-1 must be positive, or 0 for as many as"),
    ({"fine_tuning_share": 0.0}, "positive; for no fine-tuning set multigrid.fine_tuning=F"),
    ({"fine_tuning_share": 2.0}, "a twentieth of the stage before it; give at most 1.95"),
    ({"fine_tuning_share": 0.5, "fine_tuning": False}, "fine_tuning_share=0.5 needs fine-tuning"),
]  # fmt: skip


@pytest.mark.parametrize(("multigrid", "message"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_with_what_can(multigrid, message):
    with pytest.raises(UserError, match=re.escape(message)):
        schedule_of(**multigrid)


def test_too_few_iterations_name_the_fewest_that_will_do():
    with pytest.raises(UserError, match=r"multigrid\.iterations=2: learning-rate st") as refused:
        schedule_of(kinetics_i3d, iterations=2)
    least = int(re.search(r"use at least (\d+)", str(refused.value))[1])
    assert schedule_of(kinetics_i3d, iterations=least).iterations == least


def test_shapes_need_not_end_on_the_full_one_without_fine_tuning():
    coarse = ((4, 2), (2, 1))
    schedule = schedule_of(shapes=coarse, fine_tuning=False)
    assert base_grids(schedule)[-1][:2] == (1024, 16)


def test_a_baselines_iterations_are_not_those_of_the_cycles():
    with pytest.raises(UserError, match=r"with a cycle on, set multigrid\.iterations"):
        schedule_from_config(config_with(**{"baseline.iterations": 7}))


def test_batches_that_the_devices_cannot_share_name_numbers_of_devices():
    schedule = schedule_of(kinetics_i3d, shapes=((1, 1.1), (1, 1)))
    assert schedule.grid(2).batch == 280
    check_devices(schedule, 8)
    with pytest.raises(UserError, match=r"280 x 16 x 214.* over 16 devices.*: 1, 2, 4, 8$"):
        check_devices(schedule, 16)


def test_the_plan_shows_what_rounding_keeps_away_from_eq_1(tmp_path):
    config = config_with(kinetics_i3d, **{"multigrid.shapes": ODD})
    table = write_plan(config, tmp_path)
    excess = json.loads((tmp_path / "plan.json").read_text())["excess"]
    assert excess["2304 x 5 x 129^2"] == pytest.approx(9 * 5 / 16 * (129 / 224) ** 2 - 1)
    assert "2304 x 5 x 129^2 -6.7%" in table
    assert "Eq. 1" not in write_plan(config_with(), tmp_path / "papers")


def test_shapes_of_as_many_pixels_have_colours_of_their_own():
    schedule = schedule_of(shapes=((2, 1), (1, 2), (1, 1)))
    colours = shape_colours(schedule)
    assert len({*colours.values()}) == 3
    assert colours[schedule.phases[-1].grids[-1]] == shape_colours(schedule_of()).popitem()[1]
    boxes = plan_figure(schedule, "own").axes[0].patches
    assert {box.get_x() for box in boxes} == {phase.start for phase in schedule.phases}


def test_shapes_come_from_the_command_line(tmp_path):
    done = run_main(
        "--config=configs/kinetics_slowfast.py",
        "--mode=plan",
        f"--workdir={tmp_path}",
        "--config.multigrid.shapes=((1,2),(1,1))",
        "--config.multigrid.iterations=32686",
    )
    assert done.returncode == 0, done.stderr
    assert "32,686 iterations against the baseline's 112,000" in done.stdout
    assert "1024 x 32 x 158^2" in done.stdout


def test_a_config_of_an_earlier_version_means_the_shapes_it_meant(tmp_path):
    content = json.loads(config_with().to_json())
    for name in ("shapes", "iterations", "fine_tuning_share"):
        del content["multigrid"][name]
    del content["baseline"]["iterations"]
    content["multigrid"]["long_shapes"] = 3
    (tmp_path / "config.json").write_text(json.dumps(content))
    expected = tuple((shape.time, shape.area) for shape in LONG_CYCLE[1:])
    there = stored_config(tmp_path / "config.json")
    assert schedule_from_config(there).phases == schedule_of(shapes=expected).phases
