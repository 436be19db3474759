"""Videos that are stored, but listed: cut off, damaged, or with frames that are never shown."""

import fractions

import av
import pytest

from data.preparation.video_frames import VideoError
from mg_jax.errors import UserError
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.preparations import NAME, changed, listed, read

_SHOW = 0x10  # in the first byte of a VP8 frame


def write_with_hidden_frames(path, every):
    """A VP8 video at 25 a second, in which a hidden packet comes before each `every`-th frame."""
    plain = videos.write(path.with_name("plain.webm"), 24, codec="libvpx")
    milliseconds = fractions.Fraction(1, 1000)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            hidden = number % every == every - 1
            for is_hidden in (True, False) if hidden else (False,):
                content = bytearray(bytes(packet))
                content[0] &= 0xFF - _SHOW * is_hidden
                copy = av.Packet(bytes(content))
                copy.pts = copy.dts = 40 * number - is_hidden
                copy.time_base, copy.stream = milliseconds, stream
                copy.is_keyframe = packet.is_keyframe
                target.mux(copy)


@pytest.mark.parametrize("every", [3, 6])
def test_packets_that_show_nothing_are_no_frames(tmp_path, every):
    path = tmp_path / "video.webm"
    write_with_hidden_frames(path, every)
    with av.open(str(path)) as container:
        assert sum(p.size > 0 for p in container.demux(video=0)) == 24 + 24 // every
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24
    frames = read(path)
    assert (len(frames.jpegs), frames.source_frames) == (24, 24)
    assert (frames.fps, frames.remarks) == (25, ())


def write_streamable(path):
    """An MP4 with its index in front, so that its beginning can be read without its end."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in videos.images(64, 48, 24):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def packet_at(path, index):
    """Where a packet of a file begins, and its size, in bytes."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        return packets[index].pos, packets[index].size


def cut_off(path, index):
    """In the middle of a packet."""
    start, size = packet_at(path, index)
    path.write_bytes(path.read_bytes()[: start + size // 2])


KINDS = {
    ".avi": "mpeg4",
    ".mkv": "mpeg4",
    ".webm": "libvpx-vp9",
    ".ts": "mpeg2video",
    ".flv": "flv",
    ".mp4": None,
}


@pytest.mark.parametrize("packet", [12, 19])
@pytest.mark.parametrize("suffix", KINDS)
def test_a_video_that_is_cut_off_is_stored_up_to_there_and_remarked_upon(tmp_path, suffix, packet):
    path = tmp_path / f"video{suffix}"
    if KINDS[suffix]:
        videos.write(path, 24, (64, 48), codec=KINDS[suffix])
    else:
        write_streamable(path)
    whole = read(path)
    assert (len(whole.jpegs), whole.remarks) == (24, ())
    cut_off(path, packet)
    frames = read(path)
    assert packet - 4 <= len(frames.jpegs) <= packet + 1
    numbers = videos.numbers(frames.jpegs)[: packet - 4]  # the last may be half there
    assert numbers == list(range(packet - 4))
    assert frames.fps == pytest.approx(25, rel=0.01)
    said = " ".join(frames.remarks)
    assert ("cut off" if suffix == ".ts" else "announces") in said


def test_damage_in_the_middle_is_no_cut_off_end(tmp_path):
    path = write_streamable(tmp_path / "video.mp4")
    start, size = packet_at(path, 12)
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes([0xFF]) * size
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"\w"):
        read(path)


def test_frames_that_the_decoder_mends_are_remarked_upon(tmp_path):
    path = videos.write(tmp_path / "video.avi", 24, (160, 120), codec="mpeg4")
    start, size = packet_at(path, 12)
    content = bytearray(path.read_bytes())
    content[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert any(frame.is_corrupt for frame in container.decode(video=0))
    frames = read(path)
    assert len(frames.jpegs) == 24
    assert any("damaged" in remark for remark in frames.remarks)


@pytest.fixture
def source(tmp_path):
    """Twenty ordinary videos, one cut off, one whose clock jumps."""
    folder = tmp_path / "source" / "train" / "run"
    for i in range(20):
        videos.write_folder(folder / f"{i:02d}", 2)
    cut_off(videos.write(folder / "cut.avi", 24, (64, 48), codec="mpeg4"), 12)
    videos.write(folder / "jump.mkv", 3, times_ms=[0, 36_000_000, 36_000_040])
    return tmp_path / "source"


def test_odd_videos_are_listed_with_what_is_odd(source, capsys):
    config = videos.config_for(source, NAME)
    prepare(config)
    rows = listed(config, "remarks.csv")
    folder = source / "train" / "run"
    assert {row["id"] for row in rows} == {"run/cut.avi", "run/jump.mkv"}
    assert {row["path"] for row in rows} == {str(folder / "cut.avi"), str(folder / "jump.mkv")}
    assert {row["split"] for row in rows} == {"train"}
    assert any("announces 24 frames" in row["remark"] for row in rows)
    printed = capsys.readouterr().out
    assert "22 train," in printed
    assert f"{folder / 'cut.avi'}, but look at it: " in printed
    assert "2 videos stored with remarks, see " in printed
    prepare(config)  # which is there already
    assert "2 videos stored with remarks, see " in capsys.readouterr().out


def test_remarks_survive_a_preparation_that_was_cut_off(source):
    """The jump's part is done when the next video, whose folder is no folder, stops it."""
    whole = videos.config_for(source, NAME)
    prepare(whole)
    resumed = changed(whole, max_broken=0.0)
    resumed.data.dir += "_resumed"
    broken = source / "train" / "run" / "zz.mp4"
    broken.touch()
    with pytest.raises(UserError, match="cannot be read"):
        prepare(resumed)
    videos.write(broken, 2)
    prepare(resumed)
    assert listed(resumed, "remarks.csv") == listed(whole, "remarks.csv")
