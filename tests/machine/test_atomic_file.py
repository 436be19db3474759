"""Files are there whole or not at all."""

import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from mg_jax.machine.atomic_file import (
    remove_unfinished,
    replace_folder,
    replaced,
    replaced_folder,
    write_json,
    write_text,
)
from tests import runs

KILLED = """
import os, pathlib, signal, sys
from mg_jax.machine.atomic_file import replaced
with replaced(pathlib.Path(sys.argv[1])) as unfinished:
    unfinished.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_there_stays_until_the_new_file_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with replaced(path) as unfinished:
        unfinished.write_text("ne")
        assert path.read_text() == "old"
        unfinished.write_text("new")
    assert path.read_text() == "new"
    with pytest.raises(KeyError), replaced(path) as unfinished:
        unfinished.write_text("ne")
        raise KeyError
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_once_the_new_one_is_whole(tmp_path):
    path = tmp_path / "folder"
    with replaced_folder(path) as unfinished:
        (unfinished / "old").touch()
        assert not path.exists()
    with pytest.raises(KeyError), replaced_folder(path) as unfinished:
        (unfinished / "part").touch()
        raise KeyError
    assert [file.name for file in path.iterdir()] == ["old"]
    with replaced_folder(path) as unfinished:
        (unfinished / "new").touch()
        assert (path / "old").exists()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "new").touch()
    rename = pathlib.Path.rename

    def interrupted(source, target):
        if source == newer:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(pathlib.Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(path, newer, tmp_path / "aside")
    assert (path / "old").exists() and (newer / "new").exists()
    monkeypatch.undo()
    replace_folder(path, newer, tmp_path / "aside")
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_processes_of_the_same_number_on_two_hosts_write_to_files_of_their_own(
    tmp_path, monkeypatch
):
    path = tmp_path / "file"
    with replaced(path) as first:
        first.write_text("first")
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: "another-host")
            with replaced(path) as second:
                second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"


def test_a_killed_process_leaves_the_old_file_and_what_can_be_told_from_it(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"old": 1})
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=runs.ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == '{\n "old": 1\n}\n'
    with replaced(path) as unfinished:
        assert not unfinished.exists()  # another process's is not taken over
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
