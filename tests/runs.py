"""Runs in processes of their own, one to a work directory."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests import forked
from tests.xla_flags import xla_flags

ROOT = pathlib.Path(__file__).parent.parent
STARTED: list[subprocess.Popen | forked.Forked] = []


def config_of(recipe, variant="", **changes):
    """A recipe's config with changes, such as `**{"schedule.scale": 0.5}`."""
    config = recipe.get_config(variant)
    config.update_from_flattened_dict(changes)
    return config


def launch(*command, **environment):
    """Starts Python with a command line and returns the process, its output piped."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    STARTED.append(process)
    return process


def ended(process):
    """Waits for the end of a process; its status and output."""
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def start(workdir, *arguments, config="tests/tiny.py", devices=1, mode="train", anew=False):
    """Starts main.py and returns the process, its output piped.

    One that trains or evaluates has its libraries already where that can be, unless it is to start
    `anew`.
    """
    flags = xla_flags(devices)
    where = [] if workdir is None else [f"--workdir={workdir}"]
    command = ["main.py", f"--config={config}", *where, f"--mode={mode}", *arguments]
    process = None
    if mode in ("train", "eval") and not anew:
        process = forked.fork(command, {**os.environ, "XLA_FLAGS": flags})
    if process is None:
        return launch(*command, XLA_FLAGS=flags, PYTHONUNBUFFERED="1")
    STARTED.append(process)
    return process


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start_two(workdir, *arguments, **settings):
    """Starts two processes of one run, two devices each.

    One starts anew: nothing may rest on what two forks share, such as the order of sets.
    """
    together = [f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    return [
        start(
            workdir, *arguments, *together, f"--process_id={i}", devices=2, anew=i == 1, **settings
        )
        for i in range(2)
    ]


def wait_for(workdir, step, processes):
    """Returns once a run has logged a step."""
    wait_until(lambda: step in losses(workdir), processes)


def wait_until(happens, processes):
    """Returns once something has happened; until then the processes must live."""
    deadline = time.monotonic() + 400
    while not happens():
        for process in processes:
            assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_all():
    """Kills what has been started and still runs."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def run(workdir, *arguments, expect=0, **settings):
    """Runs main.py to its end and returns what it printed."""
    status, output = ended(start(workdir, *arguments, **settings))
    assert status == expect, output
    return output


def losses(workdir):
    """Loss by step, as logged after every iteration."""
    return {line["step"]: line["loss"] for line in log(workdir) if line["kind"] == "train"}


def log(workdir):
    """The lines of log.jsonl."""
    path = pathlib.Path(workdir) / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(workdir):
    """summary.json."""
    return json.loads((pathlib.Path(workdir) / "summary.json").read_text())


def newest_checkpoint(workdir):
    """The folder of the newest checkpoint."""
    folders = (pathlib.Path(workdir) / "checkpoints").glob("[0-9]*")
    return max(folders, key=lambda path: int(path.name))


def final_arrays(workdir):
    """All arrays of the newest checkpoint."""
    return arrays(workdir, int(newest_checkpoint(workdir).name))


def arrays(workdir, step):
    """All arrays of a checkpoint."""
    folder = pathlib.Path(workdir).absolute() / "checkpoints"
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore())
        restored = manager.restore(step, args=items)
    return [np.asarray(x) for x in jax.tree.leaves(restored["state"])]


def convert(*arguments):
    """Runs `python -m mg_jax.tools.convert`; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "mg_jax.tools.convert", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
