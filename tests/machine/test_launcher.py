"""Which of several processes this is, by what launchers say."""

import pytest

from mg_jax.errors import UserError
from mg_jax.machine.launcher import Process, launched_process, launched_together

NAMES = (
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "KUBERNETES_SERVICE_HOST",
    "JOB_COMPLETION_INDEX",
)


@pytest.mark.parametrize(
    ("variables", "process", "words"),
    [
        ({}, None, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None, None),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, Process(3, 4), "the 4 processes"),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
            Process(0, 2),
            "the 2 processes",
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "5"},
            Process(5, None),
            "pods",
        ),
    ],
)
def test_a_launchers_environment_tells(monkeypatch, variables, process, words):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched_process(None, None) == process
    assert words in launched_together() if words else launched_together() is None


def test_arguments_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert launched_process(2, 1) == Process(1, 2)
    assert launched_process(1, 0) is None


@pytest.mark.parametrize(
    ("count", "index", "message"),
    [
        (2, None, "--process_id is missing; --num_processes=2 needs it"),
        (0, 0, "--num_processes=0 must be positive"),
        (2, 2, "--process_id=2 must lie in 0 ... 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(count, index, message):
    with pytest.raises(UserError, match=message):
        launched_process(count, index)


def test_a_process_is_named_with_what_is_known():
    assert str(Process(1, 4)) == "process 1 of 4"
    assert str(Process(1, None)) == "process 1"
