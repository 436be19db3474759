import os
import pty
import subprocess
import sys
import termios

from tests import runs

PROGRAM = """
import time
from mg_jax.machine.progress import say, shown
for i in shown(range(40), "evaluating", "batch", 40):
    time.sleep(0.01)
    if i == 20:
        say("half of it")
"""

TASKS = """
import time
from data.preparation import workers
workers._SAY_EVERY_S = 0.0

def add(task, tally):
    time.sleep(0.2)  # a bar is drawn ten times a second
    tally.add_frame()
    tally.add_video(True)

with workers.progress("preparing", 8, 5) as show:
    workers.Pool(1, show).run(add, range(3))
"""


def output_of(columns, program=PROGRAM):
    """What the program shows on a terminal of a width, and what it prints."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    ).stdout.decode()
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return shown.decode(), printed


def test_a_terminal_shows_how_far_how_fast_and_how_long_still():
    shown, printed = output_of(columns=100)
    assert "evaluating:" in shown
    assert "/40 [" in shown
    assert "<00:0" in shown  # time left
    assert "batch/s]" in shown
    assert printed == "half of it\n"


def test_a_terminal_without_a_width_shows_nothing():
    assert output_of(columns=0) == ("", "half of it\n")


def test_workers_show_a_bar_where_there_is_room_and_lines_where_there_is_none():
    shown, printed = output_of(100, TASKS)
    assert "preparing:" in shown
    assert "8/8 [" in shown
    assert "3 frames" in shown
    assert printed == ""
    shown, printed = output_of(0, TASKS)
    assert shown == ""
    assert printed.splitlines()[-1].startswith("preparing: 8 of 8 videos, ")
    assert printed.count("3 frames") == 2
