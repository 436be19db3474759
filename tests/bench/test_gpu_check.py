"""What is to be measured on the day a GPU is at hand, at a size for a CPU."""

import ast
import importlib
import json
import os
import subprocess
import sys

import pytest

from mg_jax.bench import gpu_check
from mg_jax.bench.profile import kernel_times
from mg_jax.recipe import schedule_from_config
from tests import runs
from tests.conftest import CACHE
from tests.xla_flags import xla_flags


def test_a_part_is_measured_without_tensorflow_and_ends_in_the_table(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError")
    environment = {
        **os.environ,
        "SMALL": "1",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path),
        "XLA_FLAGS": xla_flags(),
        "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    }
    done = subprocess.run(
        ["bash", "launch/gpu_check.sh", f"--workdir={tmp_path}", "--parts=i3d"],
        cwd=runs.ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]["i3d"]
    (row,) = result["grids"]
    assert f"{row['clips_per_s']:.1f} clips/s" in done.stdout
    assert "the allocator does not say" in done.stdout
    assert result["took_s"] > 0


def test_parts_that_fail_or_have_no_time_are_named_and_the_others_go_on(tmp_path):
    fails = gpu_check.Part("fails", ("--what=nothing",), iter)
    late = gpu_check.Part("late", ("--what=step",), iter)
    found = gpu_check.run([fails], tmp_path, 60) | gpu_check.run([late], tmp_path, 0)
    table = gpu_check.format_table([fails, late], found)
    assert "ended with status 1" in table
    assert "--what" in table  # what the command says
    assert "left out: no time was left" in table


@pytest.mark.parametrize("beside", ["cpu", "again"])
def test_losses_beside_those_of_another_process(beside, tmp_path):
    few = ["--config=tests/tiny.py:baseline", "--iterations=3", f"--beside={beside}"]
    command = ["-m", "mg_jax.bench", "--what=losses", *few, f"--workdir={tmp_path}"]
    cached = {"XLA_FLAGS": xla_flags(), "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    status, output = runs.ended(runs.launch(*command, **cached))
    assert status == 0, output
    result = json.loads((tmp_path / "losses.json").read_text())
    assert result["iterations"] == len(result["losses"]) == 3
    # Both are CPUs here, and a baseline has one grid.
    assert result["most_apart"] == 0 and result["same_bits"] and result["grids"] == 1
    assert len({row["loss"] for row in result["losses"]}) == 3
    assert ("the last state has the same bits" in output) == (beside == "again")


def test_small_or_not_the_parts_are_the_same():
    names = [[part.name for part in gpu_check.parts(small=small)] for small in (False, True)]
    every = ["slowfast", "i3d", "profile", "losses", "repeated", "kernels"]
    assert names[0] == names[1] == every


def test_of_a_trace_what_runs_on_streams_counts_once():
    def event(thread, name, microseconds):
        return {"pid": 1, "tid": thread, "dur": microseconds, "args": {"hlo_op": name}}

    def named(thread, name):
        return {"pid": 1, "tid": thread, "name": "thread_name", "args": {"name": name}}

    events = [event(1, "a", 10), event(1, "a", 20), event(2, "a", 40), {"args": {}}, {}]
    assert kernel_times(events) == pytest.approx({"a": 70e-6})
    threads = [named(1, "Stream #14(Compute)"), named(2, "XLA Ops")]
    assert kernel_times([*threads, *events]) == pytest.approx({"a": 30e-6})


@pytest.mark.parametrize("small", [False, True])
def test_every_part_names_settings_that_the_config_has(small):
    for part in gpu_check.parts(small=small):
        (path,) = (a.split("=")[1].split(":") for a in part.arguments if a.startswith("--config="))
        recipe = importlib.import_module(path[0].removesuffix(".py").replace("/", "."))
        config = recipe.get_config(*path[1:])
        for argument in part.arguments:
            name, _, value = argument.partition("=")
            if name.startswith("--config."):
                setting = name.removeprefix("--config.")
                config.update_from_flattened_dict({setting: parsed(value)})
        schedule_from_config(config)
        iterations = [a for a in part.arguments if a.startswith("--iterations=")]
        assert part.name not in ("losses", "repeated") or iterations


def parsed(value: str):
    """As the command line reads it."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
