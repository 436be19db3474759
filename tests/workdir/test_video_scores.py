import csv

import numpy as np
import pytest

from mg_jax.workdir.config import WorkdirError
from mg_jax.workdir.video_scores import VideoScores, read_scores, write_scores


@pytest.mark.parametrize("damage", ["empty", "cut off", "overwritten"])
def test_damaged_scores_are_an_error_that_says_what_writes_them_again(tmp_path, damage):
    ids, labels_NK = np.array(["a.mp4", "b.mp4"]), np.eye(2, dtype=np.uint8)
    scores = VideoScores(ids, np.float32(labels_NK), labels_NK, ["a", "b"], False, 7, "validation")
    write_scores(tmp_path, scores)
    path = tmp_path / "scores.npz"
    content = bytearray(path.read_bytes())
    if damage == "overwritten":
        start = content.index(b"ids.npy") + 40  # within its compressed bytes
        content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content[: {"empty": 0, "cut off": 300}.get(damage)])
    with pytest.raises(WorkdirError, match=r"scores\.npz is damaged .*--mode=eval"):
        read_scores(tmp_path)


def test_predictions_name_all_labels_of_a_video_and_the_best_classes_by_score(tmp_path):
    scores_NK = np.float32([[0.2, 0.9, 0.8], [0.5, 0.5, 0.1]])
    labels_NK = np.uint8([[0, 1, 1], [0, 0, 0]])
    scores = VideoScores(
        np.array(["a, b.mp4", "c.mp4"]), scores_NK, labels_NK, ["x", "y", "z"], True, 7, "test"
    )
    write_scores(tmp_path, scores)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert [first[f"class_{k}"] for k in (1, 2, 3)] == ["y", "z", "x"]
    assert (first["path"], first["label"], float(first["score_1"])) == ("a, b.mp4", "y;z", 0.9)
    assert (second["label"], second["class_1"], second["class_2"]) == ("", "x", "y")
