"""What a run prints: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import json
import os
import pty
import termios

import pytest


def write_log(folder):
    """The log of a run of 40 iterations."""
    from mg_jax.training.run_log import RunLog

    log = RunLog(folder, 0, 40, False, ("jsonl", "tensorboard"))
    for step in range(1, 41):
        log.advance(step)
        if step % 20 == 0:
            log.scalars(step, {"loss": 0.5, "clips": 16})
    log.scalars(40, {"top1": 0.75}, "test")
    log.close()


def read_all(descriptor):
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # The other side has closed.
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_with_room_gets_a_bar_and_one_without_gets_lines(tmp_path, columns):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, columns))
    with (
        os.fdopen(theirs, "w") as terminal,
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
    ):
        write_log(tmp_path)
    output = read_all(ours)
    os.close(ours)
    assert ("40/40 [" in output) == (columns > 0)
    assert ("train 20/40  loss 0.5  clips 16" in output) == (columns == 0)
    assert "test 40/40  top1 0.75" in output


def test_a_pipe_gets_plain_lines(tmp_path, capfd):
    write_log(tmp_path)
    printed, shown = capfd.readouterr()
    assert printed.splitlines() == [
        "train 20/40  loss 0.5  clips 16",
        "train 40/40  loss 0.5  clips 16",
        "test 40/40  top1 0.75",
    ]
    assert "40/40 [" not in shown


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_continued_run_drops_what_it_will_log_again(tmp_path, evaluated):
    from mg_jax.training.run_log import RunLog

    def line(step, kind):
        return json.dumps({"step": step, "kind": kind})

    lines = [line(1, "train"), line(1, "eval"), line(2, "train"), line(2, "eval")]
    again = [line(2, "test"), line(3, "train"), '{"step": 4, "lo']
    (tmp_path / "log.jsonl").write_text("\n".join(lines + again))
    RunLog(tmp_path, 2, 5, evaluated, ["jsonl"]).close()
    kept = lines if evaluated else lines[:3]
    assert (tmp_path / "log.jsonl").read_text().splitlines() == kept


def test_events_of_a_run_that_goes_on_follow_in_the_order_of_names_whatever_the_clock(tmp_path):
    from mg_jax.training.events import EventFile

    ahead = tmp_path / "events.out.tfevents.4000000000.ffffffff"
    ahead.touch()
    files = [EventFile(tmp_path, purge_from=step, kept={}) for step in (1, 5, 9)]
    for file in files:
        file.close()
    assert sorted(tmp_path.iterdir()) == [ahead, *(file.path for file in files)]
