"""The programs of small models on accelerators that are not there."""

import dataclasses
import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from mg_jax.accelerators import topology
from mg_jax.accelerators.compilation import compile_absent, compile_program, schedule_programs
from mg_jax.accelerators.devices import ACCELERATORS, find_accelerator
from mg_jax.accelerators.hlo_costs import program_costs
from mg_jax.bench import program, program_compared
from mg_jax.errors import UserError
from mg_jax.models.conv import Conv
from mg_jax.models.non_local import NonLocal
from mg_jax.models.norm import SubBatchNorm
from mg_jax.models.resnet3d import Pathway, ResBlock, Stage
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.tools import plan_absent
from tests import absent, runs
from tests.accelerators import figures


@pytest.mark.parametrize("case", figures.all_cases(), ids=lambda case: figures.name_of(*case))
def test_programs_cost_a_gpu_no_more_than_recorded(case, compile_once):
    absent.mesh("h100")
    recorded = json.loads(figures.PATH.read_text()).get(jax.__version__)
    if recorded is None:
        pytest.skip(f"no figures for JAX {jax.__version__}: python -m tests.accelerators.figures")
    found = figures.figures_of(compile_once, *case)
    for what, value in recorded[figures.name_of(*case)].items():
        assert found[what] <= 1.03 * value, what


def collectives(costs):
    """The collectives of a program."""
    return [kernel for kernel in costs.kernels if kernel.kind == "collective"]


def test_gradients_statistics_and_metrics_cross_devices_all_at_once(compile_once):
    absent.mesh("h100")
    for kind in ("train", "statistics", "views"):
        _, costs = figures.costs_of(compile_once, "i3d", "float32", 8, 1, 64, kind)
        assert len(collectives(costs)) == 1
    _, costs = figures.costs_of(compile_once, "slowfast", "bfloat16", 1, 1, 8, "train")
    assert not collectives(costs)


def test_batch_norm_crosses_devices_where_sub_batches_do_once_each_way(compile_once):
    absent.mesh("h100")
    _, costs = figures.costs_of(compile_once, "i3d_nl", "bfloat16", 4, 2, 32, "train")
    norms = {kernel.layer for kernel in costs.kernels if re.search(r"(/|_)bn$", kernel.layer)}
    forward = [k.layer for k in collectives(costs) if k.direction == "forward"]
    assert forward and set(forward) <= norms
    assert len(forward) == len(set(forward))
    backward = [k.layer for k in collectives(costs) if k.direction == "backward"]
    assert len([layer for layer in backward if layer in norms]) <= len(norms) + 1
    # Gradients go in between, fewer than there are norms.
    assert len(collectives(costs)) < 3 * len(norms)


def test_a_stage_of_two_frames_takes_less_than_in_the_form_of_longer_clips():
    """XLA for GPUs keeps transposed copies for the gradient of a kernel longer than the clip."""
    mesh = absent.mesh("h100")
    pathway = Pathway(64, 1, ((1,), (1,), (3,), (3,)))
    norm = partial(SubBatchNorm, sub_batch=8, train=True, dtype=jnp.bfloat16, platform="gpu")
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    # Of the slow pathway before, and from the fast one.
    parts = [
        jax.ShapeDtypeStruct((64, 2, 14, 14, channels), jnp.bfloat16, sharding=place)
        for channels in (768, 256)
    ]

    def costs(platform):
        conv = partial(Conv, dtype=jnp.bfloat16, platform=platform)
        stage = Stage((pathway,), 2, 3, conv, norm, NonLocal, ResBlock, platform)
        variables = jax.eval_shape(stage.init, jax.random.key(0), [parts])

        @partial(jax.grad, argnums=(0, 1))
        def gradients(params, parts, statistics):
            variables = {"params": params, "batch_stats": statistics}
            (y,), _ = stage.apply(variables, [parts], mutable=["batch_stats"])
            return jnp.mean(jnp.square(y.astype(jnp.float32)))

        given = parallel.abstract(
            (variables["params"], parts, variables["batch_stats"]), mesh, place.spec
        )
        return program_costs(compile_absent(jax.jit(gradients).lower(*given), mesh))

    side_by_side, apart = costs("gpu"), costs("tpu")
    assert side_by_side.memory_bytes < 0.95 * apart.memory_bytes
    assert side_by_side.flops < 0.85 * apart.flops
    assert side_by_side.bytes < 0.92 * apart.bytes


def test_a_program_for_a_tpu_has_the_same_layers():
    mesh = absent.mesh("v5e")
    config = figures.config_of("i3d", "bfloat16")
    programs = schedule_programs(config, schedule_from_config(config), mesh)
    statistics = next(program for program in programs if program.kind == "statistics")
    costs, _ = compile_program(config, mesh, statistics)
    layers = {kernel.layer for kernel in costs.kernels if kernel.kind == "convolution forward"}
    assert {"s1/pathway0_stem/conv", "s5/pathway0_res0/branch2/b"} <= layers
    assert costs.memory_bytes > 0 and costs.bytes > 0


def test_a_plan_for_absent_gpus_names_memory_time_and_what_does_not_fit(
    tmp_path, monkeypatch, capsys, compile_once
):
    absent.mesh("h100")
    config = figures.config_of("i3d", "float32", 64)

    def in_proportion(config, mesh, program):
        """Smaller batches are not compiled."""
        costs, seconds = compile_once(config, mesh, dataclasses.replace(program, batch=64))
        memory_bytes = costs.memory_bytes * program.batch // 64
        return dataclasses.replace(costs, memory_bytes=memory_bytes), seconds

    monkeypatch.setattr(plan_absent, "compile_program", in_proportion)

    def plan(limit_gb):
        plan_absent.write_absent_plan(config, tmp_path, "h100", 8, 1, limit_gb)
        return capsys.readouterr().out

    output = plan(None)
    assert "8 x NVIDIA H100" in output and "63.7 GB" in output
    assert "lower bound by count" in output and "everything fits" in output
    found = json.loads((tmp_path / "gpu_plan.json").read_text())
    assert [row["kind"] for row in found["programs"]] == ["train", "statistics", "views"]
    train = found["programs"][0]
    baseline = found["schedules"]["baseline"]
    assert baseline["at_least_s"] == pytest.approx(baseline["iterations"] * train["at_least_s"])
    # Parameters, momentum and gradients, and 8 clips each of three batches.
    assert train["memory_bytes"] > 3 * 4 * 85_000 + 3 * 8 * 8 * 32 * 32 * 3
    needs = r"train on 64 x 8 x 32\^2, sub-batch \d+ needs .* --config.batch=32 is the largest"
    with pytest.raises(UserError, match=needs):
        plan(0.55 * train["memory_bytes"] / 1e9)


def test_the_benchmark_counts_every_grid_and_compares(tmp_path, monkeypatch, compile_once):
    absent.mesh("h100")
    monkeypatch.setattr(program, "compile_program", compile_once)
    result = program.measure(figures.config_of("slowfast", "bfloat16"), "h100", 1, 1)
    (row,) = result["grids"]
    kinds = row["kinds"].values()
    for key, of_kind in (("kernels", "launches"), ("bytes", "bytes"), ("at_least_s", "at_least_s")):
        assert sum(kind[of_kind] for kind in kinds) == pytest.approx(row[key])
    assert len(row["costliest"]) == 20
    assert row["clips_per_s_at_most"] == pytest.approx(8 / row["at_least_s"])
    (tmp_path / "program.json").write_text(json.dumps(result))
    other = program_compared.read_result(tmp_path / "program.json")
    other["grids"][0]["kernels"] *= 2
    assert "(0.500x)" in program_compared.format_comparison(result, other)
    assert program_compared.plot(result, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_without_its_compiler_the_line_that_installs_it_is_named(monkeypatch):
    packages = {"h100": "jax-cuda13-plugin", "v6e": "libtpu"}
    for name, package in packages.items():
        # Whether it is there in another version or not at all.
        monkeypatch.setattr(topology, "_packages", lambda _, package=package: {package: "999"})
        with pytest.raises(UserError, match=rf"(?s){package} is .*pip install .*{package}==999"):
            topology.make_mesh(find_accelerator(name))


def test_every_gpu_is_described():
    for name, accelerator in ACCELERATORS.items():
        if accelerator.cuda:
            mesh = absent.mesh(name, per_host=2, hosts=2)
            assert [d.process_index for d in mesh.devices] == [0, 0, 1, 1]
            assert mesh.devices[0].device_kind == accelerator.title


def test_flags_that_need_a_gpu_say_so(tmp_path):
    output = runs.run(tmp_path, "--gpus=8", mode="plan", expect=1)
    assert "error: --gpus goes with --gpu=NAME" in output
    output = runs.run(tmp_path, "--gpu=h100", mode="train", expect=1)
    assert "error: --gpu=h100 goes with --mode=plan" in output


@pytest.mark.nightly
def test_slowfast_r50_compiles_for_a_gpu_at_full_size():
    from configs.kinetics_slowfast import get_config

    absent.mesh("h100")
    config = get_config("baseline")
    config.batch = 32
    config.model.dtype = "bfloat16"
    (row,) = program.measure(config, "h100", 1, 1)["grids"]
    assert row["bytes_per_clip"] < 1.03 * 4.23e9
    assert row["memory_bytes"] < 1.03 * 14.0e9
    assert row["kernels"] < 1.03 * 2_376
    # The network's own, and a seventh more for products with zeros, which fill tensor cores.
    assert row["flops"] == pytest.approx(1.145 * 32 * 3 * 2 * 47.9e9, rel=0.02)


@pytest.mark.nightly
def test_training_compiles_for_tpus():
    mesh = absent.mesh("v5e", per_host=4)
    config = figures.config_of("slowfast", "bfloat16", batch=32)
    programs = schedule_programs(config, schedule_from_config(config), mesh)
    costs, _ = compile_program(config, mesh, programs[0])
    assert programs[0].kind == "train"
    assert {"convolution to input", "convolution to weights"} <= costs.by_kind().keys()
