"""Commands that train nothing leave accelerators alone, on which something else may train.

JAX is told to use a platform that does not exist, so that opening it fails.
"""

import pytest

from tests import runs

PLAN = ["main.py", "--mode=plan"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")


def ended(command, *arguments):
    """Status and output of a command on the small config."""
    return runs.ended(runs.launch(*command, "--config=tests/tiny.py", *arguments))


def test_what_is_only_counted_is_counted_on_the_cpu(flags):
    status, output = ended(["-m", "mg_jax.tools.complexity"], *flags)
    assert status == 0, output
    assert "GFLOPs per clip" in output


def test_only_with_its_flag_a_plan_opens_this_machines_devices(tmp_path):
    status, output = ended(PLAN, f"--workdir={tmp_path}")
    assert status == 0
    assert "memory" not in output
    status, output = ended(PLAN, f"--workdir={tmp_path}", "--on_device")
    assert status == 1
    assert "nowhere" in output


def test_no_other_mode_takes_that_flag(tmp_path):
    status, output = ended(["main.py", "--on_device"], f"--workdir={tmp_path}")
    assert status == 1
    assert output == "error: --on_device goes with --mode=plan, not with --mode=train\n"
