"""A folder belongs to one process at a time, until that one has ended in whatever way."""

import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from mg_jax.errors import UserError
from mg_jax.machine.lock import Busy, claimed, has_locks, in_turn, locked
from mg_jax.workdir.lock import locked_workdir
from tests import runs

HOLDER = """
import pathlib, sys, time
from mg_jax.machine.lock import locked
with locked(pathlib.Path(sys.argv[1]), "busy"):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_free_again_once_its_process_is_killed(tmp_path):
    folder = tmp_path / "made" / "anew"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=runs.ROOT, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Busy, match="come back later"), locked(folder, "come back later"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(folder, "come back later"):
        pass


def test_a_process_shuts_itself_out_as_well_and_leaves_when_its_block_ends(tmp_path):
    with locked(tmp_path, "busy"), pytest.raises(Busy), locked(tmp_path, "busy"):
        pass
    with pytest.raises(KeyError), locked(tmp_path, "busy"):
        raise KeyError
    with locked(tmp_path, "busy"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_is_said_and_the_run_goes_on(
    tmp_path, monkeypatch, capsys, number
):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path, "busy"):
        pass
    assert f"{tmp_path} lies where there are no locks" in capsys.readouterr().out


def test_a_work_directory_that_another_run_has_is_named_with_what_to_do(tmp_path):
    with (
        locked_workdir(tmp_path),
        pytest.raises(Busy, match=rf"{tmp_path}; wait for it, or .*--workdir"),
        locked_workdir(tmp_path),
    ):
        pass


def test_a_work_directory_that_cannot_be_written_to_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"--workdir=.*file/run cannot be written to \(Not a dir"),
        locked_workdir(tmp_path / "file" / "run"),
    ):
        pass


def test_a_claimed_file_is_refused_until_it_is_free_again(tmp_path):
    path = tmp_path / "made" / "file"
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)
    with claimed(path) as again:
        assert again


def test_who_waits_for_a_turn_gets_it_when_the_one_before_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=runs.ROOT, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"locked\n"
    threading.Timer(0.3, holder.kill).start()
    with in_turn(tmp_path / "lock"):
        assert holder.wait() == -signal.SIGKILL
    holder.communicate()


def test_nobody_waits_for_a_turn_in_a_folder_that_cannot_be_made():
    with pytest.raises(FileNotFoundError), in_turn(pathlib.Path("/proc/nowhere/lock")):
        pass


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ("rw,flock,lazystatfs", True),
        ("rw,localflock", False),
        ("rw,vers=4.2,local_lock=none,addr=10.0.0.1", True),
        ("rw,vers=3,nolock,local_lock=all", False),
    ],
)
def test_locks_that_hold_on_one_host_only_are_known_by_the_mount(tmp_path, options, holds):
    mounts = tmp_path / "mounts"
    mounted = f"{tmp_path}/of\\040all"  # as the kernel writes a blank
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {mounted} nfs {options} 0 0\n")
    assert has_locks(tmp_path / "of all" / "data", mounts) == holds
    assert has_locks(tmp_path / "of all beside", mounts)
