"""The report on runs: its numbers, and what it refuses."""

import collections
import dataclasses
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.report.comparison import compared_with_first
from mg_jax.report.curves import Axis, accuracy_curves, training_curve
from mg_jax.report.figures import line_style
from mg_jax.report.groups import Spread, group_runs, read_groups
from mg_jax.report.runs import read_runs, run_names
from mg_jax.report.sentences import caveats, headline
from mg_jax.report.table import main_table
from mg_jax.report.write import write_report
from mg_jax.tools.complexity import multiply_adds
from tests import runs
from tests.reports import RESULTS, change, change_log, copied, unfinished


def compared(*folders):
    return compared_with_first(group_runs(read_runs(list(folders))))


def curves_over_iterations(comparison):
    """For each group its accuracy against iterations; operations are taken to be none."""
    groups = [dataclasses.replace(g, clip_flops=collections.Counter()) for g in comparison.groups]
    return accuracy_curves(groups)[Axis(*["iterations"] * 3)]


def test_the_report_says_where_it_is_and_leaves_its_pictures(reported):
    folder = reported / "seeds"
    told = (reported / "output").read_text().splitlines()[-1]
    assert told.startswith(f"see {folder / 'report.html'} in a browser; ")
    names = ["accuracy_epochs", "accuracy_flops", "accuracy_iterations", "accuracy_wall_clock"]
    names += ["training_baseline", "training_multigrid"]
    found = sorted(path.name for path in folder.iterdir())
    assert found == sorted([*(f"{name}.png" for name in names), "report.html"])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_of_runs_that_are_partly_finished_the_finished_ones_count(reported, tmp_path):
    late = unfinished(reported / "baseline_seed1", tmp_path / "baseline_seed1", 40)
    both = compared(reported / "baseline_seed0", late)
    (group,) = both.groups
    assert main_table(both)[""][-1].cells == ["1 of 2 runs finished, step 40 of 72"]
    assert group.values["top1"] == Spread(0.5, None)
    assert "baseline: 1 of 2 runs finished, step 40 of 72. The table holds" in caveats(both)[0]
    assert headline(both) == "baseline: top-1 50.0 % (1 of 2 runs finished, step 40 of 72)"


def test_a_run_that_is_not_evaluated_yet_hides_no_other(reported, tmp_path):
    late = unfinished(reported / "baseline_seed0", tmp_path / "baseline_seed0", 40)
    early = unfinished(reported / "baseline_seed1", tmp_path / "baseline_seed1", 3)
    both = compared(late, early)
    assert both.groups[0].values["top1"] == Spread(0.5, None)
    assert headline(both) == "baseline: step 40 and 3 of 72, top-1 50.0 % so far"
    assert "baseline, 1 of its runs: not evaluated yet" in caveats(both)[1]
    (curve,) = curves_over_iterations(both)
    assert [len(points_P2) for points_P2 in curve.runs] == [2, 0]
    np.testing.assert_allclose(curve.mean_P2, curve.runs[0])


def test_a_run_that_diverged_is_told_and_in_no_mean(reported, tmp_path):
    worse = copied(reported / "baseline_seed1", tmp_path / "worse")
    change_log(worse, lambda line: {**line, "loss": 50})
    diverged = unfinished(worse, tmp_path / "baseline_seed1", 40)
    (diverged / "diverged.json").write_text('{"step": 41, "reason": "the loss is nan"}')
    both = compared(reported / "baseline_seed0", diverged)
    (group,) = both.groups
    assert main_table(both)[""][-1].cells == ["1 of 2 runs finished, diverged at step 41"]
    assert group.values["top1"] == Spread(0.5, None)
    assert caveats(both)[0].startswith("baseline_seed1 (seed 1) diverged: the loss is nan. ")
    (curve,) = curves_over_iterations(both)
    assert [len(points_P2) for points_P2 in curve.runs] == [4, 2]
    np.testing.assert_allclose(curve.mean_P2, curve.runs[0])
    training = training_curve(group, "loss")
    np.testing.assert_allclose(training.mean_P, training.runs_RP[0])
    np.testing.assert_allclose(training.runs_RP[1][:40], 50)


def test_all_runs_may_have_diverged(reported, tmp_path):
    diverged = unfinished(reported / "baseline_seed1", tmp_path / "baseline_seed1", 40)
    (diverged / "diverged.json").write_text('{"step": 41, "reason": "the loss is nan"}')
    page = write_report(read_groups([diverged]), tmp_path / "out").read_text()
    assert "<h1>baseline_seed1: diverged at step 41</h1>" in page
    assert "It is in no mean" not in page
    assert (tmp_path / "out" / "training_baseline_seed1.png").exists()
    (group,) = group_runs(read_runs([diverged]))
    expected = list(runs.losses(reported / "baseline_seed1").values())[:40]
    np.testing.assert_allclose(training_curve(group, "loss").mean_P, expected)


def test_names_too_long_for_files_are_cut_and_stay_apart(reported, tmp_path):
    folders = [copied(reported / "baseline_seed0", tmp_path / ("x" * 200))]
    folders.append(copied(reported / "baseline_seed0", tmp_path / ("y" + "x" * 199)))
    change(folders[1] / "config.json", schedule__learning_rate=0.00002)
    write_report(read_groups(folders), tmp_path / "out")
    names = [path.name for path in (tmp_path / "out").glob("training_*.png")]
    assert len(names) == 2
    assert max(map(len, names)) < 130


def test_a_run_that_falls_behind_takes_nothing_from_the_mean(reported, tmp_path):
    worse = copied(reported / "baseline_seed1", tmp_path / "worse")
    change_log(worse, lambda line: {**line, "loss": 50})
    behind = unfinished(worse, tmp_path / "baseline_seed1", 3)
    (group,) = group_runs(read_runs([reported / "baseline_seed0", behind]))
    curve = training_curve(group, "loss")
    np.testing.assert_allclose(curve.mean_P[:3], (curve.runs_RP[0][:3] + 50) / 2)
    np.testing.assert_allclose(curve.mean_P[3:], curve.runs_RP[0][3:])


@pytest.mark.parametrize("log", ["", '{"step": 3, "ki'])
def test_a_run_that_has_just_begun_hides_no_other(reported, tmp_path, log):
    begun = copied(reported / "multigrid_seed0", tmp_path / "begun")
    (begun / "summary.json").unlink()
    (begun / "log.jsonl").write_text(log)
    page = write_report(
        read_groups([reported / "baseline_seed0", begun]), tmp_path / "both"
    ).read_text()
    steps = runs.summary(reported / "multigrid_seed0")["iterations"]
    assert f"begun is not finished and not evaluated yet (step 0 of {steps})." in page
    assert "baseline_seed0: top-1 50.0" in page
    alone = write_report(read_groups([begun]), tmp_path / "alone").read_text()
    assert f"<h1>begun: step 0 of {steps}, not evaluated yet</h1>" in alone
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["report.html"]


def test_other_devices_are_told(reported, tmp_path):
    other = copied(reported / "baseline_seed0", tmp_path / "faster")
    change(other / "config.json", eval__times=3)
    change(other / "summary.json", devices="8 x NVIDIA H100")
    told = caveats(compared(reported / "baseline_seed0", other))
    devices = runs.summary(reported / "baseline_seed0")["devices"]
    assert devices.startswith("1 x cpu, ")
    names = f"baseline_seed0 on {devices}; faster on 8 x NVIDIA H100"
    assert "different devices" in told[-1]
    assert names in told[-1]


def test_seeds_that_find_compiled_programs_are_told(reported, tmp_path):
    cold = copied(reported / "multigrid_seed0", tmp_path / "multigrid_seed0")
    change(cold / "summary.json", compile_s=105.0, wall_clock_s=116.0)
    folders = [reported / f"baseline_seed{seed}" for seed in range(3)]
    told = caveats(compared(*folders, cold, reported / "multigrid_seed1"))
    assert any("differ in compilation: multigrid (5 to 105 s). " in text for text in told)


def test_videos_of_several_labels_are_compared_by_their_map(reported, tmp_path):
    folders = [
        copied(reported / f"{name}_seed0", tmp_path / name) for name in ("baseline", "multigrid")
    ]
    for folder, score in zip(folders, (0.25, 0.375), strict=True):
        change(folder / "config.json", data__multi_label=True)
        change(folder / "summary.json", metrics={"loss": 0.5, "map": score})
        change_log(
            folder,
            lambda line: {
                ("map" if name == "top1" else name): value
                for name, value in line.items()
                if name != "top5" and (name != "top1" or line["kind"] != "train")
            },
        )
    page = write_report(read_groups(folders), tmp_path / "out").read_text().replace("\xa0", " ")
    assert "mAP 37.5 % against 25.0 %" in page
    assert "top-1" not in page
    assert (tmp_path / "out" / "accuracy_epochs.png").exists()


def test_runs_of_one_seed_are_no_sample(reported, tmp_path):
    again = copied(reported / "baseline_seed0", tmp_path / "baseline_again")
    told = caveats(compared(reported / "baseline_seed0", again))
    assert "has several runs with seed 0; those are no independent samples" in told[0]


def test_other_views_in_evaluation_are_told(reported, tmp_path):
    other = copied(reported / "baseline_seed0", tmp_path / "fewer")
    change(other / "config.json", eval__clips=1)
    told = caveats(compared(reported / "baseline_seed0", other))
    assert "Not evaluated alike: eval.clips differ" in told[-1]


def test_operations_are_those_of_every_iteration(compared_seeds):
    for group in compared_seeds.groups:
        grids = [group.schedule.grid(i) for i in range(20)]
        sizes = {(grid.frames, grid.size) for grid in grids}
        forward = {size: multiply_adds(group.config, *size) for size in sizes}
        expected = sum(6 * grid.batch * forward[grid.frames, grid.size] for grid in grids)
        assert group.flops(20) == pytest.approx(expected)


def test_accuracy_is_drawn_against_what_it_cost(compared_seeds, reported):
    groups = compared_seeds.groups
    curves = accuracy_curves(groups)
    assert [axis.name for axis in curves] == ["wall_clock", "iterations", "epochs", "flops"]
    by_name = {axis.name: both for axis, both in curves.items()}
    for i, (name, (top1, train_s)) in enumerate(RESULTS.items()):
        schedule = groups[i].schedule
        lines = [line for line in runs.log(reported / f"{name}_seed0") if line["kind"] == "eval"]
        assert len(lines) == 4
        steps = [line["step"] for line in lines]
        clips = [sum(schedule.grid(k).batch for k in range(step)) for step in steps]
        costs = {
            "wall_clock": [
                sum(line[c] for c in ("train_s", "compile_s", "eval_s")) for line in lines
            ],
            "iterations": steps,
            "epochs": np.array(clips) / 48,
            "flops": [groups[i].flops(step) for step in steps],
        }
        ends = costs | {"wall_clock": [statistics.mean(train_s) + 6]}
        for axis, cost in costs.items():
            curve = by_name[axis][i]
            np.testing.assert_allclose(curve.mean_P2[:, 0], cost)
            np.testing.assert_allclose(curve.mean_P2[:, 1], 100 * statistics.mean(top1))
            np.testing.assert_allclose(curve.deviation_P, 100 * statistics.stdev(top1))
            assert [len(points_P2) for points_P2 in curve.runs] == [4, 4, 4]
            assert curve.final[0].mean == pytest.approx(ends[axis][-1])
            assert curve.final[1].mean == pytest.approx(100 * statistics.mean(top1))


def test_training_curves_are_what_was_logged(compared_seeds, reported):
    group = compared_seeds.groups[0]
    curve = training_curve(group, "loss")
    expected = list(runs.losses(reported / "real").values())
    np.testing.assert_allclose(curve.runs_RP, [expected] * 3)
    np.testing.assert_allclose(curve.mean_P, expected)
    np.testing.assert_allclose(curve.steps_P, np.arange(72) + 0.5)
    assert training_curve(group, "nothing") is None


def test_long_logs_are_averaged_and_lines_apart_leave_no_gap(reported, tmp_path):
    folder = copied(reported / "real", tmp_path / "long")
    schedule = {"schedule__iterations": 4000, "schedule__steps": [1000, 2000]}
    change(folder / "config.json", **schedule)
    steps = range(10, 3001, 10)
    lines = [{"step": step, "kind": "train", "loss": step % 20} for step in steps]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "summary.json").unlink()
    (group,) = group_runs(read_runs([folder]))
    curve = training_curve(group, "loss")
    # Two lines to a span, of the 200 spans those that there are lines of.
    np.testing.assert_allclose(curve.steps_P, np.arange(10, 3000, 20))
    np.testing.assert_allclose(curve.mean_P, [5] * 150)  # of 10 and 0


def test_lines_count_by_the_iterations_they_cover(reported, tmp_path):
    folder = copied(reported / "real", tmp_path / "uneven")
    lines = [{"step": step, "kind": "train", "loss": loss} for step, loss in ((30, 1), (36, 4))]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "summary.json").unlink()
    (group,) = group_runs(read_runs([folder]))
    curve = training_curve(group, "loss")
    # Of 72 iterations in 4 spans; the lines' middles, 15 and 33, lie in the first two.
    np.testing.assert_allclose(curve.steps_P, [15, 33])
    np.testing.assert_allclose(curve.mean_P, [1, 4])


def test_runs_are_named_by_what_tells_their_folders_apart():
    paths = [pathlib.Path(path) for path in ("a/run", "b/run", "c/other")]
    assert run_names(paths) == ["a/run", "b/run", "c/other"]
    assert run_names([pathlib.Path("a/x"), pathlib.Path("b/y")]) == ["x", "y"]


def test_curves_of_many_groups_can_be_told_apart():
    styles = [tuple(line_style(index).values()) for index in range(28)]
    assert len(set(styles)) == len(styles)


@pytest.mark.parametrize(
    ("slow", "fast", "expected"),
    [
        (["k400_seed0_slow", "k400_seed1_slow"], ["k400_fast"], ["k400_slow", "k400_fast"]),
        (["slow/0", "slow/1"], ["fast/0", "fast/1"], ["slow", "fast"]),
        (["f_1.0_seed0", "f_1.0_seed1"], ["f_2.0_seed0"], ["f_1.0", "f_2.0_seed0"]),
        (["slow", "again"], ["fast", "fast_too"], ["slow and 1 more", "fast and 1 more"]),
        (["x_0", "x_1"], ["x_2", "x_3"], ["x_0 and 1 more", "x_2 and 1 more"]),
    ],
)
def test_groups_are_named_by_what_their_runs_share(reported, tmp_path, slow, fast, expected):
    folders = [copied(reported / "real", tmp_path / name) for name in slow + fast]
    for folder in folders[len(slow) :]:
        change(folder / "config.json", schedule__learning_rate=0.00002)
    assert [group.name for group in group_runs(read_runs(folders))] == expected


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ({"prepare__quality": 50}, 2),
        ({"run__log_every": 7, "data__dir": "/elsewhere", "prepare__workers": 5}, 1),
        ({"init_from": "/here/i3d.pth"}, 2),
        ({"eval__clips": 3}, 2),
        ({"schedule__learning_rate": 0.00002}, 2),
    ],
    ids=str,
)
def test_only_runs_of_one_config_are_averaged(reported, tmp_path, values, groups):
    other = copied(reported / "baseline_seed1", tmp_path / "baseline_other")
    change(other / "config.json", **values)
    assert len(group_runs(read_runs([reported / "baseline_seed0", other]))) == groups


def damage(name, text):
    return lambda folder: (folder / name).write_text(text)


BAD = [
    (lambda f: shutil.rmtree(f), "bad is not there; give the work directories of runs"),
    (lambda f: (f / "config.json").unlink(), "bad is no work directory, or its run has not begun"),
    (lambda f: (f / "data.json").unlink(), "or its run has not begun: it holds no data.json"),
    (damage("config.json", '{"seed": 3'), "config.json is damaged (Expecting ',' delimiter"),
    (damage("config.json", "[1]"), "config.json is not a run's config"),
    (damage("config.json", '{"batch": "many"}'), "config.json is not a run's config"),
    (damage("config.json", '{"batch": 3}'), "describes no schedule: sub_batch=8 does not divide"),
    (damage("log.jsonl", ""), "bad has finished, but its log.jsonl is gone or empty"),
    (damage("log.jsonl", '{"st\n{"step": 1, "kind": "train"}\n'), "line 1 of"),
    (damage("log.jsonl", '{"step": 1, "kind": "eval"}\n{"step": 2, "kind": "train"}'), "line 1 of"),
    (damage("log.jsonl", '{"step": 99, "kind": "train"}\n'), "has logged step 99, but by its"),
    (damage("summary.json", "{"), "summary.json is damaged"),
    (damage("diverged.json", "[]"), "diverged.json lacks step or reason"),
    (damage("summary.json", "{}"), "summary.json is not a run's summary: it lacks metrics"),
    (lambda f: change(f / "config.json", data__name="k400"), "cannot be compared: data.name is"),
    (
        lambda f: change(f / "config.json", data__multi_label=True),
        "cannot be compared: data.multi_label is False in one and True in the other",
    ),
    (damage("classes.json", '["left"]'), "their classes differ (4 and 1)"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_read_or_compared_is_named(reported, tmp_path, spoil, message):
    bad = copied(reported / "baseline_seed0", tmp_path / "bad")
    spoil(bad)
    with pytest.raises(UserError) as caught:
        group_runs(read_runs([reported / "baseline_seed1", bad]))
    assert message in str(caught.value)
    assert str(bad) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=report"], "--runs is missing; --mode=report needs --runs=DIR,DIR"),
        (["--mode=report", "--runs="], "--runs is missing; --mode=report needs --runs=DIR,DIR"),
        (["--mode=report", "--runs=a,,b"], "--runs has an empty name; --mode=report needs --runs="),
        (["--config=tests/tiny.py", "--runs=a"], "--runs=a goes with --mode=report, not with"),
        (["--config=tests/tiny.py", "--mode=report", "--runs=a"], "takes no --config; each of"),
        (["--mode=report", "--runs=nowhere"], "nowhere is not there; give the work directories"),
        (["--mode=report", "--runs=README.md"], "README.md is a file; give the work directories"),
        (["--mode=report", "--runs=mg_jax"], "mg_jax is no work directory, or its run has not"),
        (["--mode=report", "--runs=docs,./docs"], "error: the run docs is given twice"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, arguments, message):
    command = [sys.executable, "main.py", f"--workdir={tmp_path}/out", *arguments]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_report_refuses_what_is_no_run_before_it_loads_what_takes_seconds(tmp_path):
    code = (
        "import runpy, sys\n"
        "for name in ('jax', 'matplotlib', 'sklearn', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['main.py', '--mode=report', '--runs=nowhere', '--workdir=nothing']\n"
        "runpy.run_path('main.py', run_name='__main__')\n"
    )
    status, output = runs.ended(runs.launch("-c", code))
    assert status == 1
    assert "error: nowhere is not there; give the work directories of runs" in output


def test_finished_runs_are_printed_side_by_side(reported):
    folders = [str(reported / name) for name in ("baseline_seed1", "multigrid_seed1")]
    command = [sys.executable, "-m", "mg_jax.report.terminal_table"]
    done = subprocess.run([*command, *folders], cwd=runs.ROOT, capture_output=True, text=True)
    assert "2.00× less training time without compilation, top-1 +0.0 points" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["iterations", "72", "35"] in rows
    assert ["training,", "s", "40.0", "20.0"] in rows
    assert ["top-1,", "%", "60.0", "60.0"] in rows
    done = subprocess.run([*command, *folders[::-1]], cwd=runs.ROOT, capture_output=True, text=True)
    assert "2.00× more training time without compilation, top-1 +0.0 points" in done.stdout
    same = [str(reported / f"baseline_seed{seed}") for seed in (0, 1)]
    done = subprocess.run([*command, *same], cwd=runs.ROOT, capture_output=True, text=True)
    assert "baseline_seed1 against baseline_seed0: " in done.stdout
    assert "slower by the clock, as many iterations, 1.33× more training time" in done.stdout
    done = subprocess.run(
        [*command, str(reported / "cut")], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "summary.json is missing; the run of" in done.stderr
