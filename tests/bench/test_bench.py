"""The benchmarks: what follows from their measurements, and that they run without TensorFlow."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from mg_jax.accelerators.forecast import MEASURED, project
from mg_jax.bench import kernels
from mg_jax.recipe import as_baseline, schedule_from_config
from mg_jax.runtime import xla_options
from mg_jax.training.state import state_shapes
from tests import runs, tiny

# Fails if anything loads TensorFlow.
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None
runpy.run_module("mg_jax.bench", run_name="__main__", alter_sys=True)
"""


def test_the_step_is_measured_without_tensorflow_on_every_grid(tmp_path):
    config = "--config=tests/tiny.py"
    few = ["--config.multigrid.shapes=((1,1),)", "--iterations=3"]
    arguments = ["--what=step", f"--workdir={tmp_path}", config, *few]
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "step.json").read_text())
    config = tiny.get_config()
    config.multigrid.shapes = ((1, 1),)
    schedules = {
        "multigrid": schedule_from_config(config),
        "baseline": schedule_from_config(as_baseline(config)),
    }
    assert [row["grid"]["size"] for row in result["grids"]] == [32, 23]
    seconds = {tuple(row["grid"].values()): row["iteration_s"] for row in result["grids"]}
    for name, schedule in schedules.items():
        grids = [schedule.grid(i) for i in range(schedule.iterations)]
        expected = sum(seconds[g.batch, g.frames, g.size, g.sub_batch] for g in grids)
        assert result["schedules"][name]["train_s"] == pytest.approx(expected)
    slow, fast = (result["schedules"][name]["train_s"] for name in ("baseline", "multigrid"))
    assert result["speed_up"] == pytest.approx(slow / fast)
    assert f"{slow / fast:.2f}x faster" in done.stdout
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state_shapes(config)))
    assert all(row["flops"] > 1e6 and row["memory_bytes"] > state for row in result["grids"])
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")


def test_a_schedule_takes_the_time_of_its_iterations():
    schedule = schedule_from_config(tiny.get_config())
    counts = schedule.grid_counts()
    rows = {
        grid: {"iteration_s": grid.batch / 7, "flops": 2.0, "lower_s": 1.0, "compile_s": 2.0}
        for grid in counts
    }
    found = project({"multigrid": schedule}, rows, MEASURED)["schedules"]["multigrid"]
    assert found["train_s"] == pytest.approx(schedule.clips / 7)
    assert found["flops"] == 2 * schedule.iterations
    assert found["compile_s"] == 3 * len(counts)


def with_gradients(function, rng, *arrays):
    """Its result and the gradients of all its arguments."""
    cotangent = rng.normal(size=jax.eval_shape(function, *arrays).shape).astype(np.float32)

    def both(*arrays):
        y, backward = jax.vjp(function, *arrays)
        return [y, *backward(cotangent)]

    return jax.jit(both, compiler_options=xla_options.for_once("cpu"))(*arrays)


def test_all_forms_of_a_block_are_the_same_function():
    config = tiny.get_config()
    for name, shape, forms in kernels.blocks(config, clips=8):
        results = []
        for function, *parameters in forms.values():
            rng = np.random.default_rng(0)
            arrays = [rng.normal(size=s).astype(np.float32) for s in (shape, *parameters)]
            results.append(with_gradients(function, rng, *arrays))
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), err_msg=name)
