"""What can happen to a run: signals, kills, full disks, damaged files, a second run."""

import gc
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.training.state import state_shapes
from mg_jax.workdir.checkpoint import Checkpoints, read_best
from mg_jax.workdir.config import WorkdirError, steps_in
from tests import runs, tiny


def assert_bit_identical(workdir, other):
    assert runs.losses(workdir) == runs.losses(other)
    for a, b in zip(runs.final_arrays(workdir), runs.final_arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Signals


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.nightly)])
def test_kills_at_any_moment_change_no_bit(undisturbed, flags, tmp_path, kills):
    workdir, seed = tmp_path / "killed", random.randrange(2**32)
    rng = random.Random(seed)
    # A checkpoint is being written nearly all the time.
    often = "--config.run.checkpoint_every=1"
    log, writing = workdir / "log.jsonl", 0
    for kill in range(kills):
        # A run that continues puts another file in the place of its log, then trains.
        before = log.stat().st_ino if log.exists() else None
        process = runs.start(workdir, *flags, often)
        runs.wait_until(lambda old=before: log.exists() and log.stat().st_ino != old, [process])
        step = newest_step(workdir)  # the last kill comes before the end
        if kill % 2 and step < 30:
            # In the middle of writing a checkpoint.
            runs.wait_until(lambda: unfinished(workdir), [process])
        elif step < 20:
            runs.wait_until(lambda old=step: newest_step(workdir) > old, [process])
            time.sleep(rng.uniform(0, 0.5))
        process.kill()
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, (output, seed)
        writing += unfinished(workdir)
    assert writing > 0
    assert newest_step(workdir) >= kills // 2, seed
    assert "continuing" in runs.run(workdir, *flags, often), seed
    assert_bit_identical(workdir, undisturbed[0])
    assert_every_step_once(workdir)


def newest_step(workdir):
    """Of the checkpoints that are whole; 0 where there is none."""
    names = [path.name for path in (workdir / "checkpoints").glob("[0-9]*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def unfinished(workdir):
    """Whether there is a checkpoint that is not whole yet."""
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def assert_every_step_once(workdir):
    """In the log, and in what TensorBoard shows."""
    import tensorflow as tf

    iterations = schedule_from_config(tiny.get_config()).iterations
    logged = [(line["kind"], line["step"]) for line in runs.log(workdir)]
    assert len(logged) == len(set(logged))
    trained = [line for line in runs.log(workdir) if line["kind"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, iterations + 1))
    shown = {}
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        for event in read_events(path):
            if event.session_log.status == tf.compat.v1.SessionLog.START:
                # Which is when TensorBoard drops what lies ahead.
                shown = {key: value for key, value in shown.items() if key[0] < event.step}
            for value in event.summary.value:
                assert (event.step, value.tag) not in shown
                shown[event.step, value.tag] = value.simple_value
    for line in trained:
        assert shown[line["step"], "train/loss"] == pytest.approx(line["loss"], rel=1e-6)


def read_events(path):
    """Events of a TensorBoard file: length, checksum, event, checksum; the last may be cut off."""
    import tensorflow as tf

    content, position = path.read_bytes(), 0
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 8], "little")
        if position + 16 + length > len(content):
            return
        yield tf.compat.v1.Event.FromString(content[position + 12 : position + 12 + length])
        position += 16 + length


def test_sigterm_writes_a_checkpoint_at_once_and_ends_with_its_status(undisturbed, flags, tmp_path):
    workdir = tmp_path / "preempted"
    process = runs.start(workdir, *flags, "--config.run.checkpoint_every=1000")
    runs.wait_for(workdir, 12, [process])
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143, output
    assert "stopped by SIGTERM; the same command continues" in output
    last = max(runs.losses(workdir))
    assert runs.newest_checkpoint(workdir).name == str(last)
    assert f"continuing {workdir} at step {last}" in runs.run(workdir, *flags)
    assert_bit_identical(workdir, undisturbed[0])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_stopped_during_an_evaluation_loses_neither_steps_nor_the_evaluation(
    undisturbed, flags, tmp_path, number, status
):
    workdir = tmp_path / "stopped"
    endless = "--config.eval.precise_bn_batches=1000000"
    process = runs.start(workdir, *flags, endless, "--config.run.checkpoint_every=1000")
    # The checkpoint does not wait for the evaluation.
    runs.wait_until(lambda: newest_step(workdir) == 9, [process])
    refused = runs.run(workdir, *flags, expect=1)
    assert f"error: another run trains in {workdir}; wait for it" in refused
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    assert runs.newest_checkpoint(workdir).name == "9"
    assert f"continuing {workdir} at step 9" in runs.run(workdir, *flags)
    assert_bit_identical(workdir, undisturbed[0])
    found, expected = (
        [(line["step"], line["loss"]) for line in runs.log(folder) if line["kind"] == "eval"]
        for folder in (workdir, undisturbed[0])
    )
    assert found == expected


def test_ctrl_c_once_or_twice_ends_with_a_message_and_the_run_continues(
    undisturbed, flags, tmp_path
):
    workdir = tmp_path / "stopped"
    for step, times in ((8, 1), (16, 2)):
        process = runs.start(workdir, *flags)
        runs.wait_for(workdir, step, [process])
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "interrupted; the same command continues from the newest checkpoint" in output
        assert "Traceback" not in output
    assert "continuing" in runs.run(workdir, *flags)
    assert_bit_identical(workdir, undisturbed[0])


def test_sigterm_before_training_has_begun_ends_with_its_status(flags, tmp_path):
    workdir = tmp_path / "opening"
    process = runs.start(workdir, *flags, anew=True)
    runs.wait_until(lambda: catches_sigterm(process.pid), [process])
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143, output
    assert re.fullmatch(
        r"stopped by SIGTERM( before the first checkpoint)?; the same command starts it again\n",
        output,
    )
    assert "Traceback" not in output
    assert not (workdir / "config.json").exists()


def catches_sigterm(pid):
    """Whether a process has a handler for it, as Python has not by itself."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return mask >> (signal.SIGTERM - 1) & 1


def test_sigterm_while_data_are_prepared_ends_with_its_status(tmp_path):
    arguments = [f"--config.data.dir={tmp_path}", "--config.prepare.workers=2"]
    process = runs.start(None, *arguments, mode="prepare")
    runs.wait_until(lambda: any(tmp_path.rglob("*.mp4")), [process])
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143, output
    message = "stopped by SIGTERM; the same command continues from what is prepared so far\n"
    assert output.endswith(message)
    assert "Traceback" not in output


def test_a_run_cut_off_after_its_last_iteration_only_evaluates(undisturbed, flags, copy):
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").unlink()
    output = runs.run(copy, *flags)
    assert f"continuing {copy} at step {summary['iterations']}" in output
    again = json.loads((copy / "summary.json").read_text())
    assert again["metrics"] == pytest.approx(summary["metrics"], rel=1e-6)
    assert [line["kind"] for line in runs.log(copy)] == [
        line["kind"] for line in runs.log(undisturbed[0])
    ]


def test_a_run_that_begins_anew_is_not_called_finished(flags, copy):
    shutil.rmtree(copy / "checkpoints")
    process = runs.start(copy, *flags)
    runs.wait_until(lambda: not (copy / "summary.json").exists(), [process])
    said = f"training in {copy}, which holds a run without a checkpoint, from the beginning"
    assert any(line.startswith(said) for line in process.stdout)


# Disks


# From the first checkpoint on no file can grow beyond a size; batches in memory are files as well.
LIMITED = """
import resource, runpy, sys
from mg_jax.workdir.checkpoint import Checkpoints

limit, save = int(sys.argv.pop(1)), Checkpoints.save

def save_limited(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return save(*arguments)

Checkpoints.save = save_limited
runpy.run_path("main.py", run_name="__main__")
"""


def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_run_continues(undisturbed, flags, copy):
    for _ in range(2):  # so that the next one comes before an evaluation
        shutil.rmtree(runs.newest_checkpoint(copy))
    (copy / "summary.json").unlink()
    last = runs.newest_checkpoint(copy).name
    kept = {path.name for path in (copy / "checkpoints").glob("[0-9]*")}
    files = [path for path in runs.newest_checkpoint(copy).rglob("*") if path.is_file()]
    limit = max(path.stat().st_size for path in files) // 2
    command = [sys.executable, "-c", LIMITED, str(limit), "--config=tests/tiny.py"]
    process = subprocess.run(
        [*command, f"--workdir={copy}", *flags], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert process.returncode == 1, process.stdout
    # A thread of Orbax's prints its own account at the same time, perhaps afterwards.
    message = f"error: a checkpoint could not be written to {copy}/checkpoints ("
    (error,) = (line for line in process.stderr.splitlines() if line.startswith(message))
    assert f"step {last} is the newest whole one. Make room and start" in error
    assert {path.name for path in (copy / "checkpoints").iterdir()} == kept
    assert f"continuing {copy} at step {last}" in runs.run(copy, *flags)
    assert_bit_identical(copy, undisturbed[0])


@pytest.fixture(scope="module")
def template():
    """What gives the state's shapes, and the device to restore to."""
    shapes = state_shapes(tiny.get_config())
    return lambda: shapes, jax.sharding.Mesh(jax.devices()[:1], (parallel.AXIS,))


def restore(workdir, template):
    """Step and arrays of the checkpoint that is restored; None where there is none."""
    checkpoints = Checkpoints(workdir, keep=3, read_only=True)
    try:
        restored = checkpoints.restore(*template, repair=False)
    except WorkdirError:
        return None
    finally:
        checkpoints.close()
    return restored and [np.asarray(x) for x in jax.tree.leaves(restored[0])]


def damages(checkpoint, rng):
    """Each file of a checkpoint missing, emptied, and with some of its bytes flipped."""
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        content = path.read_bytes()
        variants = [None, b""]
        for _ in range(1 + len(content) // 50_000):
            flipped = bytearray(content)
            if flipped:
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            variants.append(bytes(flipped))
        for variant in variants:
            path.unlink()
            if variant is not None:
                path.write_bytes(variant)
            yield path, variant
            path.write_bytes(content)


# What Orbax's failed reads leave behind complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_damage_to_a_checkpoint_goes_unnoticed(copy, template):
    newest = runs.newest_checkpoint(copy)
    whole, best = restore(copy, template), read_best(copy)
    newest.rename(copy / "newest")
    before = restore(copy, template)
    (copy / "newest").rename(newest)
    seed = random.randrange(2**32)
    noticed = 0
    for path, variant in damages(newest, random.Random(seed)):
        found = restore(copy, template)
        expected = whole if all(map(np.array_equal, found, whole)) else before
        noticed += expected is before
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{path} {variant and len(variant)} {seed}")
        assert_same_variables(read_best(copy), best, copy)
    gc.collect()
    assert noticed > 10


def assert_same_variables(found, best, workdir):
    """Of the best checkpoint, or where that is damaged, those of another one as it was."""
    if found.step == best.step and found.evaluated == best.evaluated:
        for a, b in zip(*map(jax.tree.leaves, (found.variables, best.variables)), strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        assert (workdir / "checkpoints" / str(found.step)).exists()


@pytest.mark.parametrize("missing", ["state/manifest.ocdbt", "record/metadata"])
def test_a_damaged_best_checkpoint_is_named_where_another_is_used(copy, capsys, missing):
    folder, best = copy / "checkpoints", read_best(copy).step
    others = steps_in(folder) - {best}
    for step in sorted(others)[1:]:
        shutil.rmtree(folder / str(step))
    other = min(others)
    (folder / str(best) / missing).unlink()
    found = read_best(copy)
    assert (found.step, found.unreadable) == (other, (best,))
    assert re.fullmatch(rf"(best|newest) readable checkpoint,.* step {other}", str(found))
    said = rf"checkpoint {folder / str(best)} cannot be read: \S+"
    assert re.match(said, capsys.readouterr().out)
    shutil.rmtree(folder / str(other) / "state")
    with pytest.raises(WorkdirError, match=rf"none of .* can be read: step \d+: .* step {other}: "):
        read_best(copy)


def damage_state(checkpoint):
    for path in (checkpoint / "state").rglob("d/*"):  # in which arrays lie differs from run to run
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_reads_that_end_after_one_has_failed_are_not_reported(copy):
    best = copy / "checkpoints" / str(read_best(copy).step)
    damage_state(best)
    program = f"""
import asyncio, pathlib
from mg_jax.workdir.checkpoint import read_best
before = asyncio.get_event_loop_policy()
print(read_best(pathlib.Path({str(copy)!r})))
assert asyncio.get_event_loop_policy() is before
"""
    status, output = runs.ended(runs.launch("-c", program))
    assert status == 0, output
    assert f"checkpoint {best} cannot be read: " in output
    assert "Traceback" not in output
    assert "tensorstore_spec" not in output


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(undisturbed, flags, copy):
    last = runs.newest_checkpoint(copy)
    damage_state(last)
    output = runs.run(copy, *flags)
    assert f"checkpoint {last} cannot be read" in output
    assert "Traceback" not in output
    assert f"kept as {copy}/damaged_checkpoint_{last.name}" in output
    assert len(list(copy.glob(f"damaged_checkpoint_{last.name}_*"))) == 1
    assert "continuing" in output
    assert json.loads((copy / "summary.json").read_text())["iterations"] == int(last.name)
    assert_bit_identical(copy, undisturbed[0])
