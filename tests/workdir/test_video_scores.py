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
