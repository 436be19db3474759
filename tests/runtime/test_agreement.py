"""What the processes of a run agree on before they train: two real ones that differ."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from mg_jax.weights.files import write_tensors
from mg_jax.weights.layout import to_tensors
from mg_jax.workdir.checkpoint import read_best
from tests import runs
from tests.conftest import CACHE
from tests.xla_flags import xla_flags


def agreed(folder, data_dir, devices):
    """Runs two processes of `tests.agreeing` with so many devices; lines of JSON of each."""
    port, processes = str(runs.free_port()), []
    for process in range(2):
        flags = xla_flags(devices[process])
        arguments = [port, str(process), str(folder), str(data_dir), str(CACHE)]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.agreeing", *arguments],
                cwd=runs.ROOT,
                env={**os.environ, "XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    runs.STARTED.extend(processes)
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    return [[json.loads(line) for line in out.splitlines() if line[0] == "{"] for out in outputs]


def relabel(path):
    """Changes the label of the fourth video of a split's table."""
    records = ArrayRecordReader(str(path)).read_all()
    example = tf.train.Example.FromString(records[3])
    label = example.features.feature["labels"].int64_list.value
    label[0] = (label[0] + 1) % 4
    records[3] = example.SerializeToString()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


@pytest.fixture(scope="module")
def unlike(undisturbed, data_dir, tmp_path_factory):
    """What two processes said that differ in nearly everything, see `tests/agreeing.py`."""
    folder = tmp_path_factory.mktemp("unlike")
    shutil.copytree(undisturbed[0], folder / "whole")
    shutil.copytree(undisturbed[0], folder / "before")
    (folder / "before" / "summary.json").unlink()
    shutil.rmtree(runs.newest_checkpoint(folder / "before"))
    shutil.copytree(data_dir / "moving_shapes", folder / "data" / "moving_shapes")
    (path,) = (folder / "data").rglob("*-train.array_record*")
    relabel(path)
    tensors = to_tensors(read_best(undisturbed[0]).variables)
    write_tensors(folder / "0.safetensors", tensors)
    name = next(name for name in tensors if name.endswith("running_mean"))
    write_tensors(folder / "1.safetensors", {**tensors, name: tensors[name] + 0.001})
    return [
        {name: said for found in lines for name, said in found.items()}
        for lines in agreed(folder, data_dir, (2, 2))
    ]


def on_both(unlike, name):
    """What both processes said, which is the same."""
    first, second = (found[name] for found in unlike)
    assert first == second
    return first


def test_what_the_first_process_decides_all_decide(unlike):
    assert on_both(unlike, "decided") == {"of": 0, "text": "ü" * 300}


def test_what_one_process_raises_all_raise(unlike):
    assert [found["refused"] for found in unlike] == ["LookupError: on 0", "UserError: on 0"]
    assert [found["together"] for found in unlike] == [0, 1]
    assert [found["first failed"] for found in unlike] == [
        "LookupError: on 0",
        "UserError: process 0: on 0",
    ]
    assert [found["second failed"] for found in unlike] == [
        "UserError: process 1: on 1",
        "LookupError: on 1",
    ]


def test_an_error_about_a_name_that_is_not_utf_8_reaches_all(unlike):
    first, second = (found["not UTF-8"] for found in unlike)
    assert (first, second) == ("UserError: process 1: on 1caf\udce9", "LookupError: on 1caf\udce9")


def test_what_differs_is_named_with_the_process(unlike):
    assert on_both(unlike, "same") is None
    differs = "UserError: process 1 differs from process 0 in"
    assert on_both(unlike, "other") == f"{differs} b. Mend it"
    assert on_both(unlike, "more").startswith(f"{differs} a, c")
    assert f"{differs} seed, batch" in on_both(unlike, "settings")
    assert on_both(unlike, "shared") is None


def test_other_labels_of_one_video_are_refused(unlike):
    said = on_both(unlike, "data")
    assert "process 1 differs from process 0 in labels of split 'train'. " in said
    assert "--config.data.dir" in said


def test_data_that_only_one_process_has_not_are_missed_by_all(unlike):
    first, second = (found["no data"] for found in unlike)
    assert first.startswith("UserError: process 1: no prepared data set in")
    assert second.startswith("UserError: no prepared data set in")


def test_other_weights_to_start_from_are_refused(unlike):
    said = on_both(unlike, "weights")
    assert "differs from process 0 in batch_stats of the weights of --config.init_from" in said


def test_a_file_system_that_lags_makes_no_difference(unlike, undisturbed):
    assert on_both(unlike, "lagging") == runs.summary(undisturbed[0])
    # Process 1 missed the file that tells it is the same folder, then the newest checkpoint.
    assert [found["missed"] for found in unlike] == [0, 2]


def test_programs_for_accelerators_are_kept_where_all_processes_find_them_or_not_at_all(unlike):
    first, second = (found["programs"] for found in unlike)
    # In the own folder, in the work directory. Process 0 writes for all.
    assert (first["cpu"], second["cpu"]) == ([1, 0], [0, 0])
    assert first["gpu"] == [1, 1]
    assert second["gpu"][0] == 0
    assert (first["unlike"], first["off"], second["off"]) == ([1, 1], True, True)


def test_hosts_with_unlike_numbers_of_devices_are_refused(data_dir, tmp_path):
    for lines in agreed(tmp_path, data_dir, (2, 1)):
        assert "process 0 has 2, process 1 has 1" in lines[0]["devices"]
