"""Flags that belong to another mode are refused."""

import re
import subprocess
import sys

import pytest
from absl import flags

from mg_jax.tools.command_line import check_flags
from tests import runs


def checked(*arguments):
    values = flags.FlagValues()
    mode = flags.DEFINE_enum("mode", "walk", ["walk", "run", "swim"], "", flag_values=values)
    fast = flags.DEFINE_bool("fast", False, "", flag_values=values)
    miles = flags.DEFINE_integer("miles", 1, "", flag_values=values)
    values(["program", *arguments])
    check_flags(mode, {"walk": (miles,), "run": (fast, miles)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fast"], "--fast goes with --mode=run, not with --mode=walk"),
        (["--mode=swim", "--miles=1"], "--miles=1 goes with --mode=walk or --mode=run, not with"),
    ],
)
def test_a_flag_of_another_mode_is_refused_and_its_modes_are_named(arguments, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        checked(*arguments)


def test_flags_of_the_mode_itself_and_defaults_are_not_refused():
    checked("--miles=3")
    checked("--mode=run", "--fast", "--miles=3")
    checked("--mode=swim")


def test_the_benchmarks_refuse_flags_of_others(tmp_path):
    command = [sys.executable, "-m", "mg_jax.bench", "--what=program", "--clips_per_s=5"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'bench'}"], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "error: --clips_per_s=5.0 goes with --what=input" in done.stderr
    assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize("fault", ['config.model["dept"]', "config.nothing", "len(3)"])
def test_a_fault_of_a_recipe_is_told_with_its_file_and_line(tmp_path, fault):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from configs.base import get_base\n\n\ndef get_config():\n    config = get_base()\n"
        f"    return {fault}\n"
    )
    said = runs.run(None, f"--config={recipe}", mode="prepare", expect=1)
    assert re.search(rf"error: {recipe}:6: \w+Error: .+", said)
    assert "no such setting" not in said


def test_devices_that_there_are_not_are_refused_before_anything_is_written(tmp_path):
    workdir = tmp_path / "plan"
    said = runs.run(workdir, "--gpu=v5e", "--gpus=3", mode="plan", expect=1)
    assert "3 chips; TPU hosts have 1, 4, 8" in said
    assert not workdir.exists()
