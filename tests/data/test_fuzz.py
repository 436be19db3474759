"""Files that somebody else made, damaged at random: each is read, or refused with a message.

`FUZZ_EXAMPLES=1000000 timeout 600 python -m pytest tests/data/test_fuzz.py -k lists` goes on for
ten minutes. What was found so lies in `tests/corpus` and is tried every time.
"""

import json
import os
import pathlib
import pickle
import signal

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.charades.charades_dataset_builder import Builder as Charades
from data.kinetics.kinetics_dataset_builder import Builder as Kinetics
from data.listing.findings import Findings
from data.preparation.prepare import settings_from_config
from data.preparation.video_frames import VideoError, read_frames
from data.ssv2.ssv2_dataset_builder import Builder as SSv2
from data.video_folder.video_folder_dataset_builder import Builder as VideoFolder
from mg_jax.errors import UserError
from mg_jax.weights.files import WeightsError, read_tensors
from tests import videos

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
CORPUS = pathlib.Path(__file__).parents[1] / "corpus"
# A file that takes longer hangs.
LONGEST_S = 60
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TOKENS = [b"../", b"/", b"\0", b'"', b",", b" ", b"\n", b"[", b"{", b";", b"null", b"-1", b"1e999"]
TOKENS += [b"nan", b"9" * 20, b"9" * 5000, b"\xff\xfe", b"\xef\xbb\xbf", b"\xd9\xa3", b"\xff" * 8]


@st.composite
def damaged(draw, whole):
    """A file with bits flipped, and parts cut out, repeated, overwritten or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        size = len(content)
        at = draw(st.integers(0, max(size - 1, 0)))
        length = draw(st.one_of(st.integers(1, 16), st.integers(1, max(size, 1))))
        match draw(st.sampled_from(["flip", "cut", "remove", "repeat", "token", "bytes"])):
            case "flip" if size:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at:]
            case "remove":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[at : at + length]
            case "token":
                content[at:at] = draw(st.sampled_from(TOKENS))
            case "bytes":
                content[at : at + 8] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content)


class HangError(BaseException):
    """Something takes too long."""


@pytest.fixture(autouse=True)
def hangs_end():
    """Ends what takes too long, where Python still runs."""

    def end(signum, frame):
        raise HangError

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def test_the_corpus_is_there():
    assert len(list(CORPUS.glob("lists/*/*"))) > 20
    assert len(list(CORPUS.glob("weights/*"))) > 5
    assert len(list(CORPUS.glob("videos/*"))) > 3


# Lists


def charades(folder):
    csv = "id,subject,actions\nAAAAA,S1,c000 0.5 7.25;c002 3 4\nBBBBB,S2,\n"
    return (
        Charades,
        "charades",
        {
            "Charades_v1_classes.txt": "c000 Holding a cup\nc001 Opening a door\nc002 Sitting\n",
            "Charades_v1_train.csv": csv,
            "Charades_v1_test.csv": csv,
        },
    )


def ssv2(folder):
    entries = json.dumps([{"id": "7", "template": "Holding [something]", "label": "holding a cup"}])
    return (
        SSv2,
        "ssv2",
        {
            "something-something-v2-labels.json": '{"Holding something": "0", "Opening [x]": "1"}',
            "something-something-v2-train.json": entries,
            "something-something-v2-validation.json": entries,
        },
    )


def kinetics(folder):
    rows = f'a/b.mp4 3\n"air drumming/c d.mp4" 399\n{folder}/x.mp4 12\n'
    names = "".join(f"class {k}\n" for k in range(400))
    return Kinetics, "kinetics/400", {"train.csv": rows, "val.csv": rows, "classes.txt": names}


def video_folder(folder):
    rows = 'a/b.mp4 3\n"c d.mp4" 399 7\nx.mp4 run\n'
    numbers = "a.mp4 3\nb.mp4 0\n"
    return VideoFolder, "video_folder/x", {"train.csv": rows, "validation.csv": numbers}


LISTS = {f.__name__: f for f in (charades, ssv2, kinetics, video_folder)}


def read_listing(kind, folder, name, content):
    """Lists a data set one of whose files has this content; checks what came of it."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    cls, data_set, files = LISTS[kind](source)
    for other, text in files.items():
        (source / other).write_text(text)
    (source / name).write_bytes(content)
    config = videos.config_for(source, data_set)
    variant = data_set.partition("/")[2]
    builder = cls(folder / "prepared", variant, settings_from_config(config))
    findings = Findings()
    try:
        listing = builder.listing(findings)
        findings.check(source)
    except UserError as error:
        assert str(source) in str(error)
        return
    for split in listing.splits.values():
        for video in split:
            assert source in pathlib.Path(os.path.abspath(video.path)).parents
            assert all(0 <= action.label < len(listing.classes) for action in video.actions)


@pytest.mark.parametrize("kind", LISTS)
@fuzzed
@given(data=st.data())
def test_lists_are_read_or_refused(kind, data, tmp_path):
    files = LISTS[kind](tmp_path / "source")[2]
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(damaged(files[name].encode()))
    signal.alarm(LONGEST_S)
    read_listing(kind, tmp_path, name, content)


@pytest.mark.parametrize("path", sorted((CORPUS / "lists").glob("*/*")), ids=str)
def test_lists_found_so_far_are_read_or_refused(path, tmp_path):
    kind, name = path.parent.name, path.name.partition("@")[2]
    read_listing(kind, tmp_path, name, path.read_bytes())


# Weights


def weight_files(folder, torch):
    """Small files of each kind, as bytes by suffix."""
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(2, 3)).astype(np.float32), "b": np.zeros(4, np.int64)}
    torch.save({"model_state": {k: torch.tensor(v) for k, v in tensors.items()}}, folder / "w")
    return {
        ".safetensors": safetensors.numpy.save(tensors),
        ".pkl": pickle.dumps({"blobs": tensors}, protocol=2),
        ".pyth": (folder / "w").read_bytes(),
    }


def read_weights(path):
    try:
        tensors = read_tensors(path)
    except WeightsError as error:
        assert str(path) in str(error)
        return
    for tensor in tensors.values():
        assert tensor.dtype == np.float32 or tensor.dtype.kind in "iub"


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pyth"])
@fuzzed
@given(data=st.data())
def test_weights_are_read_or_refused(suffix, data, tmp_path, torch):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(data.draw(damaged(weight_files(tmp_path, torch)[suffix])))
    signal.alarm(LONGEST_S)
    read_weights(path)


@pytest.mark.parametrize("path", sorted((CORPUS / "weights").glob("*")), ids=str)
def test_weights_found_so_far_are_read_or_refused(path):
    read_weights(path)


# Videos

KINDS = {".mp4": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Small videos, as bytes by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    return {
        suffix: videos.write(folder / f"video{suffix}", codec=codec).read_bytes()
        for suffix, codec in KINDS.items()
    }


def read_video(path):
    try:
        frames = read_frames(path, short_side=16, quality=80)
    except VideoError as error:
        assert str(error)
        return
    assert len(frames.jpegs) == frames.source_frames <= 10_000
    assert frames.height >= 1
    assert frames.width >= 1


@pytest.mark.parametrize("suffix", KINDS)
@fuzzed
@given(data=st.data())
def test_videos_are_read_or_refused(suffix, data, whole, tmp_path):
    path = tmp_path / f"video{suffix}"
    path.write_bytes(data.draw(damaged(whole[suffix])))
    signal.alarm(LONGEST_S)
    read_video(path)


@pytest.mark.parametrize("path", sorted((CORPUS / "videos").glob("*")), ids=str)
def test_videos_found_so_far_are_read_or_refused(path):
    read_video(path)
