"""What an evaluation gets wrong, against sums by hand, and on the page."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from mg_jax.errors import UserError
from mg_jax.report.class_sections import class_sections
from mg_jax.report.classes import (
    calibration,
    class_results,
    confused_pairs,
    confusion,
    shown_classes,
)
from mg_jax.report.groups import group_runs, read_groups
from mg_jax.report.runs import read_runs
from mg_jax.report.write import write_report
from mg_jax.training.mistakes import confident_mistakes, write_animation
from mg_jax.workdir.video_scores import VideoScores, read_scores, write_scores
from tests import browser, runs
from tests.reports import change, copied


def scores_of(scores_NK, labels_NK, multi_label=False):
    scores_NK, labels_NK = np.array(scores_NK, np.float32), np.array(labels_NK, np.uint8)
    names = [f"class {k}" for k in range(scores_NK.shape[1])]
    ids = np.array([f"{i}.mp4" for i in range(len(scores_NK))])
    return VideoScores(ids, scores_NK, labels_NK, names, multi_label, 7, "validation")


def of_labels(scores_NK, label_N):
    return scores_of(scores_NK, np.eye(len(scores_NK[0]), dtype=np.uint8)[label_N])


THREE = of_labels(
    [[0.95, 0.05, 0], [0.72, 0.18, 0.1], [0.63, 0.27, 0.1], [0.1, 0.81, 0.09], [0.28, 0.28, 0.44]],
    [0, 0, 1, 1, 1],
)


def test_classes_come_worst_first_with_accuracy_and_average_precision():
    one, zero, two = class_results(THREE)
    assert (one.name, one.videos, one.accuracy) == ("class 1", 3, pytest.approx(1 / 3))
    # By the scores for it its three videos come before the two others.
    assert one.average_precision == pytest.approx(1.0)
    assert (zero.name, zero.accuracy, zero.average_precision) == ("class 0", 1.0, 1.0)
    assert (two.videos, two.accuracy, two.average_precision) == (0, None, None)


def test_with_several_labels_classes_have_no_accuracy():
    found = class_results(
        scores_of([[0.9, 0.2], [0.8, 0.7], [0.1, 0.6]], [[1, 0], [0, 1], [1, 1]], True)
    )
    assert [result.accuracy for result in found] == [None, None]
    # Ranked 0.9 right, 0.8 wrong, 0.1 right.
    by_name = {result.name: result.average_precision for result in found}
    assert by_name == {"class 0": pytest.approx((1 + 2 / 3) / 2), "class 1": pytest.approx(1.0)}
    assert confusion(scores_of([[0.9, 0.2]], [[1, 0]], True)) is None


def test_the_most_confused_of_400_classes_are_named_and_shown():
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 400, 2000)
    best_N = label_N.copy()
    best_N[label_N == 17] = 333
    best_N[:5] = (label_N[:5] + 1) % 400
    many = of_labels(np.eye(400)[best_N], label_N)
    matrix_KK = confusion(many)
    np.testing.assert_array_equal(matrix_KK.sum(1), np.bincount(label_N, minlength=400))
    first, *others = confused_pairs(matrix_KK, many.classes)
    taken = int((best_N[label_N == 17] == 333).sum())
    assert (first.label, first.predicted, first.videos) == ("class 17", "class 333", taken)
    assert first.share == pytest.approx(taken / (label_N == 17).sum())
    assert 1 <= len(others) <= 5
    shown = shown_classes(matrix_KK)
    assert {17, 333} <= set(shown) and 4 <= len(set(shown)) <= 12
    assert list(shown_classes(confusion(THREE))) == [0, 1, 2]


def test_calibration_is_how_often_scores_of_a_size_are_right():
    found = calibration(THREE)
    np.testing.assert_allclose(found.confidence_P, [0.44, 0.63, 0.72, 0.81, 0.95], atol=1e-6)
    np.testing.assert_allclose(found.right_P, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.counts_P, [1, 1, 1, 1, 1])
    assert found.error == pytest.approx((0.44 + 0.63 + 0.28 + 0.19 + 0.05) / 5)


def test_mistakes_are_those_with_the_highest_wrong_scores():
    assert confident_mistakes(THREE) == [(2, 0), (4, 2)]
    several = scores_of([[0.9, 0.6], [0.4, 0.9], [0.7, 0.8]], [[1, 0], [0, 1], [0, 0]], True)
    assert confident_mistakes(several) == [(2, 1), (0, 1)]


def test_a_clip_becomes_a_small_picture_that_moves(tmp_path):
    frames_THWC = np.zeros((32, 224, 224, 3), np.uint8)
    frames_THWC[:, :, :, 0] = 8 * np.arange(32)[:, None, None]
    write_animation(tmp_path / "a.webp", frames_THWC)
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (12, (128, 128), 0)
        image.seek(11)
        assert image.convert("RGB").getpixel((64, 64))[0] > 200


def test_a_run_keeps_the_scores_that_its_metrics_come_from(undisturbed):
    workdir = undisturbed[0]
    scores, summary = read_scores(workdir), runs.summary(workdir)
    assert (scores.split, len(scores.ids)) == ("validation", 11)
    assert scores.step == summary["iterations"]
    right_N = scores.scores_NK.argmax(1) == scores.labels_NK.argmax(1)
    assert right_N.mean() == pytest.approx(summary["metrics"]["top1"])
    own_N = scores.scores_NK[scores.labels_NK > 0]
    assert -np.log(own_N).mean() == pytest.approx(summary["metrics"]["loss"], rel=1e-5)
    with (workdir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(scores.ids)
    for row, scores_K, labels_K in zip(rows, scores.scores_NK, scores.labels_NK, strict=True):
        assert row["label"] == scores.classes[labels_K.argmax()]
        best = np.sort(scores_K)[::-1]
        assert [float(row[f"score_{k}"]) for k in (1, 2, 3, 4)] == pytest.approx(best, abs=1e-6)
        assert row["class_1"] == scores.classes[scores_K.argmax()]
        assert "class_5" not in row
    listed = json.loads((workdir / "mistakes" / "mistakes.json").read_text())
    assert len(listed) == min((~right_N).sum(), 12)
    for mistake in listed:
        i = list(scores.ids).index(mistake["path"])
        assert mistake["score"] == pytest.approx(scores.scores_NK[i].max(), abs=1e-6)
        with Image.open(io.BytesIO((workdir / "mistakes" / mistake["file"]).read_bytes())) as image:
            assert (image.n_frames, image.size) == (8, (32, 32))


def test_the_page_shows_classes_and_mistakes_that_move(undisturbed, tmp_path):
    path = write_report(read_groups([undisturbed[0]]), tmp_path)
    names = {picture.name for picture in tmp_path.glob("*.png")}
    assert {"confusion_run.png", "calibration_run.png"} <= names
    listed = json.loads((undisturbed[0] / "mistakes" / "mistakes.json").read_text())
    with browser.shown(path, 390, 844) as (page, asked):
        assert asked == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        clips = page.evaluate(
            "[...document.querySelectorAll('.clip img')].map(i => [i.complete, i.naturalWidth])"
        )
        assert clips == [[True, 32]] * len(listed)
        text = page.locator(".clip").first.inner_text()
    for word in (listed[0]["label"][0], listed[0]["predicted"], listed[0]["path"]):
        assert word in text


def test_of_400_classes_the_page_shows_the_worst_and_of_several_labels_no_accuracy(
    undisturbed, tmp_path
):
    rng = np.random.default_rng(0)
    label_N = np.repeat(np.arange(400), 4)
    best_N = label_N.copy()
    best_N[label_N == 17] = 333  # one class is always taken for another one
    best_N[rng.choice(1600, 200, replace=False)] = 5
    write_scores(copied(undisturbed[0], tmp_path / "many"), of_labels(np.eye(400)[best_N], label_N))
    several = scores_of([[0.9, 0.2, 0], [0.8, 0.7, 0], [0.1, 0.6, 0]], np.eye(3), True)
    write_scores(copied(undisturbed[0], tmp_path / "labels"), several)
    change(tmp_path / "labels" / "config.json", schedule__learning_rate=0.5)
    path = write_report(read_groups([tmp_path / "many", tmp_path / "labels"]), tmp_path / "out")
    with browser.shown(path, 390, 844) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        many, labels = (
            page.locator("section").filter(has_text=f"What {name} gets wrong")
            for name in ("many", "labels")
        )
        # What is folded is not in the text.
        texts = [section.inner_text() for section in (many, labels)]
        pairs, worst = (many.locator("table").nth(n).locator("tr").all() for n in range(2))
        shown = [row.locator("th, td").all_inner_texts() for row in (pairs[1], worst[1])]
    assert shown == [["class 17", "class 333", "4", "100.0"], ["class 17", "4", "0.0", "0.2"]]
    assert len(pairs) == len(worst) == 1 + 20
    assert "1,600 videos of validation, 400 classes" in texts[0]
    assert "All 400 classes, the worst first" in texts[0]
    assert texts[0].count("class ") < 100
    assert "average precision, %" in texts[1] and "accuracy, %" not in texts[1]
    assert "confused" not in texts[1] and "class 2" in texts[1]
    names = {picture.name for picture in (tmp_path / "out").glob("c*_*.png")}
    assert names == {"confusion_many.png", "calibration_many.png", "calibration_labels.png"}


def test_damaged_scores_say_what_writes_them_again(copy):
    content = (copy / "scores.npz").read_bytes()
    (copy / "scores.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"scores.npz is damaged .*--mode=eval"):
        class_sections(group_runs(read_runs([copy])), ["run"])
    (copy / "scores.npz").unlink()
    assert class_sections(group_runs(read_runs([copy])), ["run"]) == []
