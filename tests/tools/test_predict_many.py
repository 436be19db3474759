"""The classes of files, folders and lists of videos, and what of them cannot be read."""

import csv
import json
import shutil
import weakref

import numpy as np
import pytest

from data.preparation.parts import Stored
from mg_jax.errors import UserError
from mg_jax.input.sampling import all_views
from mg_jax.tools.predict import predict
from mg_jax.tools.predict_many import predict_videos, scored
from mg_jax.tools.raw_videos import RawVideo, find_videos, read_videos


@pytest.fixture
def folder(data_dir, tmp_path):
    """Three videos in two folders, one of them damaged, beside something else."""
    source = sorted((data_dir / "downloads" / "moving_shapes" / "validation").iterdir())
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    shutil.copy(source[0], folder / "a.mp4")
    shutil.copy(source[1], folder / "more" / "b, of two.mp4")
    (folder / "c.mp4").write_text("not a video")
    (folder / "notes.md").write_text("no video")
    return folder


def test_files_folders_and_lists_name_each_video_once(folder, tmp_path):
    a, b, c = folder / "a.mp4", folder / "more" / "b, of two.mp4", folder / "c.mp4"
    assert find_videos([folder]) == [a, c, b]
    (folder / "list.txt").write_text("a.mp4\n\nmore/b, of two.mp4\n")
    (folder / "list.csv").write_text('path,label\n"more/b, of two.mp4",up\nc.mp4,down\n')
    assert find_videos([folder / "list.txt"]) == [a, b]
    assert find_videos([folder / "list.csv", a, folder / "more"]) == [b, c, a]
    (tmp_path / "words.txt").write_text("hello\nworld\n")
    with pytest.raises(UserError, match=r"words.txt is read as a list .* the first .*hello"):
        find_videos([tmp_path / "words.txt"])
    with pytest.raises(UserError, match=r"no videos in .*empty"):
        (tmp_path / "empty").mkdir()
        find_videos([tmp_path / "empty"])


def test_the_pixels_of_videos_that_are_scored_are_not_kept():
    def read():
        for i in range(3):
            assert not any(pixels() is not None for pixels in made[: max(i - 1, 0)])
            views_VTHWC = np.full((1, 2, 4, 4, 3), i, np.uint8)
            made.append(weakref.ref(views_VTHWC))
            yield RawVideo(f"{i}.mp4", views_VTHWC)
        yield RawVideo("no.mp4", error="damaged")

    made = []
    rows = scored(read(), np.mean)
    assert [scores_K for _, scores_K in rows] == [0, 1, 2, None]
    assert [video.path for video, _ in rows] == ["0.mp4", "1.mp4", "2.mp4", "no.mp4"]
    assert all(video.views_VTHWC is None for video, _ in rows)


def test_a_table_holds_what_each_video_alone_gets_and_names_the_unread(
    folder, config, undisturbed, tmp_path
):
    workdir = undisturbed[0]
    config.run.readers = 2
    said = predict_videos(config, [folder], workdir, tmp_path / "out.csv")
    assert "2 videos" in said and "not read: 1 of 3" in said and "c.mp4 (Invalid data" in said
    with (tmp_path / "out.csv").open(newline="") as file:
        a, c, b = csv.DictReader(file)
    assert (a["error"], c["class_1"]) == ("", "") and "Invalid data" in c["error"]
    for row in (a, b):
        rows = [f"{float(row[f'score_{k}']):7.2%}  {row[f'class_{k}']}" for k in (1, 2, 3, 4)]
        alone = predict(config, folder / row["path"], workdir).splitlines()
        assert alone[-4:] == rows
        assert f"{row['frames']} frames" in alone[0]
    predict_videos(config, [folder / "a.mp4", folder / "c.mp4"], workdir, tmp_path / "out.json")
    first, second = json.loads((tmp_path / "out.json").read_text())
    assert first["path"] == str(folder / "a.mp4") and "Invalid data" in second["error"]
    assert [(row["class"], f"{row['score']:.6f}") for row in first["classes"]] == [
        (a[f"class_{k}"], a[f"score_{k}"]) for k in (1, 2, 3, 4)
    ]


def test_processes_read_what_one_does_in_order(folder, config):
    paths = [folder / "more" / "b, of two.mp4", folder / "c.mp4", *[folder / "a.mp4"] * 4]
    how, views = Stored(48, 90, 1), all_views(config)
    alone, together = (list(read_videos(paths, how, views, count)) for count in (1, 2))
    for one, other in zip(alone, together, strict=True):
        assert (one.path, one.error, one.remarks) == (other.path, other.error, other.remarks)
        assert one.error or (one.views_VTHWC == other.views_VTHWC).all()


def test_requests_that_cannot_work_say_what_would(folder, config, undisturbed, tmp_path):
    workdir = undisturbed[0]
    with pytest.raises(UserError, match=r"3 videos; --output=FILE.csv or FILE.json"):
        predict_videos(config, [folder], workdir, None)
    with pytest.raises(UserError, match=r"out.txt must be a file that ends in .csv or .json"):
        predict_videos(config, [folder], workdir, tmp_path / "out.txt")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        predict_videos(config, [folder], workdir, tmp_path / "nowhere" / "out.csv")
    with pytest.raises(UserError, match=r"none of 1 videos could be read: .*c.mp4 \(Invalid"):
        predict_videos(config, [folder / "c.mp4"], workdir, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
