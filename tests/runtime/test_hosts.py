"""Several processes to a run, as on several hosts: real ones, stopped and killed for real."""

import signal

import pytest

from tests import runs


def assert_same_losses(workdir, other):
    """To 1e-5, which wrong gradients exceed a hundredfold."""
    found, expected = runs.losses(workdir), runs.losses(other)
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, rel=1e-5), step


# Every iteration changes the grid, between two, since compiling takes longest.
SHORT_CYCLE = [
    "--config.multigrid.long_cycle=False",
    "--config.schedule.iterations=24",
    "--config.schedule.steps=(12, 18)",
    "--config.schedule.warmup_iterations=6",
    "--config.eval.times=2",
]


def test_four_devices_give_the_losses_of_one(undisturbed, flags, tmp_path):
    runs.run(tmp_path / "four", *flags, devices=4)
    assert_same_losses(tmp_path / "four", undisturbed[0])
    assert len({(line.get("frames"), line.get("size")) for line in runs.log(undisturbed[0])}) > 3


def test_a_run_moves_between_one_device_and_two_processes_of_which_one_is_killed(flags, tmp_path):
    flags = [*flags, *SHORT_CYCLE]
    workdir, undisturbed = tmp_path / "moving", tmp_path / "undisturbed"
    runs.run(undisturbed, *flags)
    middle, end = sorted({step for step, _ in evaluations(undisturbed)})
    assert end > middle + 4 > 10

    one = runs.start(workdir, *flags)
    runs.wait_for(workdir, 2, [one])
    one.send_signal(signal.SIGTERM)
    output, _ = one.communicate(timeout=300)
    assert one.returncode == 143, output

    # Two devices each; their sub-batches of eight clips span both processes.
    killed = runs.start_two(workdir, *flags)
    runs.wait_for(workdir, middle - 1, killed)
    killed[1].kill()
    output, _ = killed[0].communicate(timeout=120)
    assert killed[0].returncode != 0
    # Of mg_jax where a device call fails first, of JAX where its heartbeat does.
    assert "continues from the newest checkpoint" in output or "another task died" in output

    stopped = runs.start_two(workdir, *flags)
    runs.wait_for(workdir, middle + 3, stopped)
    stopped[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=300)[0] for process in stopped]
    assert [process.returncode for process in stopped] == [143, 143], outputs
    last = max(runs.losses(workdir))
    assert (workdir / "checkpoints" / str(last)).exists()
    # One prints and writes for both.
    assert f"continuing {workdir} at step" in outputs[0]
    assert "stopped by SIGTERM; the same command continues" in outputs[0]
    assert "train " not in outputs[1]

    assert f"continuing {workdir} at step {last}" in runs.run(workdir, *flags)
    assert_same_losses(workdir, undisturbed)
    # Of eleven videos over four devices each counts once, whatever fills the batches up.
    assert evaluations(workdir) == pytest.approx(evaluations(undisturbed), rel=1e-5)


def evaluations(workdir):
    """Loss and top-1 by step of evaluation."""
    lines = [line for line in runs.log(workdir) if line["kind"] == "eval"]
    return {(line["step"], name): line[name] for line in lines for name in ("loss", "top1")}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_waits_for_the_others_ends_with_the_signals_status(
    flags, tmp_path, number, status
):
    arguments = ["--num_processes=2", "--process_id=0"]
    arguments.append(f"--coordinator=localhost:{runs.free_port()}")
    process = runs.start(tmp_path / "none", *flags, *arguments)
    assert "waiting for the 2 processes of the run" in process.stdout.readline()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert "before the processes of the run had met" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--num_processes=2"],
            "--coordinator and --process_id are missing; --num_processes=2 needs them",
        ),
        (
            ["--coordinator=here", "--num_processes=2", "--process_id=0"],
            "--coordinator=here must be HOST:PORT of process 0",
        ),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 must lie in 0 ... 1",
        ),
    ],
)
def test_flags_that_do_not_do_are_refused_at_once(flags, tmp_path, arguments, message):
    output = runs.run(tmp_path / "none", *flags, *arguments, expect=1)
    assert f"error: {message}" in output
    assert not (tmp_path / "none").exists()
