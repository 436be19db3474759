"""The script for SLURM, with commands of the same names in the place of SLURM's."""

import os
import subprocess

import pytest

from tests import runs


@pytest.mark.parametrize(
    ("status", "requeued"), [(0, False), (1, False), (130, False), (143, True)]
)
def test_a_job_that_was_stopped_goes_back_into_the_queue(tmp_path, status, requeued):
    # Each writes its arguments down; srun ends as the processes of the run do.
    for name, ending in (("srun", status), ("scontrol", 0)):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/{name}.said\nexit {ending}\n')
        script.chmod(0o755)
    variables = {"SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(
        ["bash", "launch/slurm.sh", "--config=configs/demo.py", "--workdir=a b"],
        cwd=runs.ROOT,
        env={**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.returncode == status
    said = (tmp_path / "srun.said").read_text()
    assert said.endswith(" python main.py --config=configs/demo.py --workdir=a b\n")
    told = tmp_path / "scontrol.said"
    assert told.exists() == requeued
    assert not requeued or told.read_text() == "requeue 42\n"
