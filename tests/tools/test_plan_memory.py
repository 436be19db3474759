"""What grids need of memory, and what fits."""

import dataclasses
import json
import re
import types

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime.executables import Executables, Program
from mg_jax.tools.plan_memory import largest_within, present_devices, what_fits
from tests import runs
from tests.tiny import get_config as get_tiny


@given(
    steps=st.lists(st.floats(0.1, 3) | st.just(50), min_size=1, max_size=200),
    fixed=st.floats(0, 20),
    limit=st.floats(0, 400),
)
def test_the_largest_batch_within_a_limit_is_found(steps, fixed, limit):
    needs = [0.0]
    for step in steps:
        needs.append(max(needs[-1], fixed) + step)
    most = len(needs)
    calls = []

    def needed(n):
        calls.append(n)
        return needs[n]

    found = largest_within(needed, most, limit)
    assert len(calls) <= 2 * most.bit_length()
    assert found == max(n for n in range(most) if needs[n] <= limit)


def test_in_proportion_it_is_found_with_few_calls():
    calls = []

    def needed(n):
        calls.append(n)
        return 5 + 0.31 * n

    assert largest_within(needed, 512, 100) == 306
    assert len(calls) <= 6


def test_a_plan_refuses_what_does_not_fit_and_names_the_largest_batch_that_does(
    flags, tmp_path, monkeypatch
):
    # Compiling for the CPU opens no accelerator, on which something may train.
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")

    def plan(batch, gigabytes, expect=0):
        sizes = ["--config.multigrid.shapes=((1,1),)", "--config.schedule.batch=32"]
        memory = [f"--config.batch={batch}", f"--device_memory_gb={gigabytes}"]
        return runs.run(tmp_path, *flags, *sizes, *memory, mode="plan", expect=expect)

    def needed(batch):
        assert "memory of each device, by the compiler" in plan(batch, 1000)
        grids = json.loads((tmp_path / "memory.json").read_text())["grids"]
        assert [grid["size"] for grid in grids] == [23, 32]
        return max(grid["bytes"] for grid in grids) / 1e9

    # A quarter of the way from 16 to 32 clips: below what 24 need.
    between = 0.75 * needed(16) + 0.25 * needed(32)
    output = plan(32, between, expect=1)
    assert re.search(r"error: grid \d+ x 8 x \d+\^2 needs [\d.]+ GB of each device", output)
    assert "--config.batch=16 is the largest that fits" in output
    assert not (tmp_path / "checkpoints").exists()


def test_batches_that_are_tried_divide_into_parts_of_whole_sub_batches():
    config = get_tiny()
    config.batch, config.run.accumulate = 64, 2
    asked = []

    def needed(grid):
        asked.append(grid.batch)
        return grid.batch

    grid = next(iter(schedule_from_config(config).grids_from(0)))
    worst = dataclasses.replace(grid, batch=128, sub_batch=16)
    said = what_fits(config, types.SimpleNamespace(size=2), worst, 80, needed)
    # 2 devices, 2 parts, 16 clips.
    assert asked and not any(batch % 64 for batch in asked)
    assert said == "--config.batch=32 is the largest that fits"


def test_an_accumulation_that_does_not_divide_is_refused_by_the_plan():
    config = get_tiny()
    config.batch = config.schedule.batch = 64
    config.run.accumulate = 3
    with pytest.raises(UserError, match=r"run\.accumulate=3 does not divide .* use 1"):
        present_devices(config)


def test_a_program_that_does_not_fit_is_refused_before_it_is_needed():
    def lower(program):
        lowered = jax.jit(lambda x: x + 1).lower(jnp.zeros(program.batch**2))
        return lambda: (lowered.compile(), False)

    small, large = (Program("train", batch, 8, 32, 8) for batch in (10, 1000))
    executables = Executables(lower, memory_bytes=1_000_000)
    executables.request([large, small])
    assert executables.get(small)(jnp.zeros(100)).sum() == 100
    # The other one is compiled by now, and nobody has asked for it.
    needs = r"train on 1000 x 8 x 32\^2, sub-batch 8 needs 0.01 GB .* 0.00 GB"
    with pytest.raises(UserError, match=needs):
        executables.check()
    executables.close()
