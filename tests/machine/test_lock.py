"""A folder belongs to one process at a time, until that one has ended in whatever way."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from mg_jax.errors import UserError
from mg_jax.machine.lock import Busy, locked
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
