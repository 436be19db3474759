"""The programs of small models on accelerators that are not there."""

import json
import re

import jax
import pytest

from mg_jax.accelerators import topology
from mg_jax.accelerators.compilation import compile_program, schedule_programs
from mg_jax.accelerators.devices import ACCELERATORS, find_accelerator
from mg_jax.bench import program, program_compared
from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.tools import plan_absent
from tests import absent, runs
from tests.accelerators import figures


@pytest.mark.parametrize("case", figures.all_cases(), ids=lambda case: figures.name_of(*case))
def test_programs_cost_a_gpu_no_more_than_recorded(case):
    absent.mesh("h100")
    recorded = json.loads(figures.PATH.read_text()).get(jax.__version__)
    if recorded is None:
        pytest.skip(f"no figures for JAX {jax.__version__}: python -m tests.accelerators.figures")
    found = figures.figures_of(*case)
    for what, value in recorded[figures.name_of(*case)].items():
        assert found[what] <= 1.03 * value, what


def collectives(*case):
    """Layers that the collectives of a program belong to, and the program's costs."""
    costs = figures.costs_of(*case)[1]
    return [kernel.layer for kernel in costs.kernels if kernel.kind == "collective"], costs


def test_gradients_statistics_and_metrics_cross_devices_all_at_once():
    absent.mesh("h100")
    layers, _ = collectives("i3d", "float32", 8, 1, 64, "train")
    assert len(layers) == 1
    assert not collectives("slowfast", "bfloat16", 1, 1, 8, "train")[0]
    assert len(collectives("i3d_nl", "bfloat16", 4, 2, 32, "views")[0]) == 1


def test_batch_norm_crosses_devices_only_where_sub_batches_do():
    absent.mesh("h100")
    layers, costs = collectives("i3d_nl", "bfloat16", 4, 2, 32, "train")
    assert len(layers) > 1
    norms = {k.layer for k in costs.kernels if re.search(r"(^|/|_)bn$", k.layer)}
    of_norms = [layer for layer in layers if layer in norms]
    # Once forward and once backward for each; some of those that do not wait for another combine.
    assert len(layers) - len(of_norms) <= 2
    assert len(of_norms) <= 2 * len(norms)


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
    tmp_path, monkeypatch, capsys
):
    absent.mesh("h100")
    known = {}

    def once(config, mesh, program):
        if program not in known:
            known[program] = compile_program(config, mesh, program)
        return known[program]

    monkeypatch.setattr(plan_absent, "compile_program", once)
    config = figures.config_of("i3d")

    def plan(limit_gb):
        plan_absent.write_absent_plan(config, tmp_path, "h100", 4, 2, limit_gb)
        return capsys.readouterr().out

    output = plan(None)
    assert "8 x NVIDIA H100" in output and "63.7 GB" in output
    assert "lower bound by count" in output and "all of it fits" in output
    found = json.loads((tmp_path / "gpu_plan.json").read_text())
    assert [row["kind"] for row in found["programs"]] == ["train", "statistics", "views"]
    train = found["programs"][0]
    baseline = found["schedules"]["baseline"]
    assert baseline["at_least_s"] == pytest.approx(baseline["iterations"] * train["at_least_s"])
    # Parameters and momentum, the gradients or their update, and the batches.
    assert train["memory_bytes"] > 3 * 4 * 85_000
    needed = max(row["memory_bytes"] for row in found["programs"]) / 1e9
    with pytest.raises(UserError, match=r"train on 8 x 8 x 32\^2 needs .* not even batch=8 fits"):
        plan(0.9 * needed)


def test_the_benchmark_counts_every_grid_and_compares(tmp_path):
    absent.mesh("h100")
    config = figures.config_of("i3d", "bfloat16")
    result = program.measure(config, "h100", 1, 1)
    (row,) = result["grids"]
    kinds = row["kinds"].values()
    for key, of_kinds in (
        ("kernels", "launches"),
        ("bytes", "bytes"),
        ("at_least_s", "at_least_s"),
    ):
        assert sum(kind[of_kinds] for kind in kinds) == pytest.approx(row[key])
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
    assert row["bytes_per_clip"] < 6.1e9
    assert row["memory_bytes"] < 23e9
    assert row["kernels"] < 2_950
    assert row["flops"] == pytest.approx(32 * 3 * 2 * 47.9e9, rel=0.05)


@pytest.mark.nightly
def test_training_compiles_for_tpus():
    mesh = absent.mesh("v5e", per_host=4)
    config = figures.config_of("slowfast", "bfloat16", batch=32)
    programs = schedule_programs(config, schedule_from_config(config), mesh)
    costs, _ = compile_program(config, mesh, programs[0])
    assert programs[0].kind == "train"
    assert {"convolution to input", "convolution to weights"} <= costs.by_kind().keys()
