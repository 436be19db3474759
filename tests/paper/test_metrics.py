import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.metrics import format_headline, headline, multi_label_metrics, single_label_metrics


def test_top1_top5_and_loss_are_means_over_videos():
    rng = np.random.default_rng(0)
    scores_NK = rng.dirichlet(np.ones(9), 40).astype(np.float32)
    label_N = rng.integers(0, 9, 40)
    order_NK = np.argsort(-scores_NK, 1)
    found = single_label_metrics(scores_NK, label_N)
    assert found["top1"] == (order_NK[:, 0] == label_N).mean()
    assert found["top5"] == (order_NK[:, :5] == label_N[:, None]).any(1).mean()
    assert found["loss"] == pytest.approx(-np.log(scores_NK[np.arange(40), label_N]).mean())


def test_equal_or_undefined_scores_are_no_hits():
    label_N = np.arange(8)
    equal = single_label_metrics(np.full((8, 8), 0.125, np.float32), label_N)
    assert (equal["top1"], equal["top5"]) == (1 / 8, 5 / 8)
    undefined = single_label_metrics(np.full((8, 8), np.nan, np.float32), label_N)
    assert (undefined["top1"], undefined["top5"]) == (0, 0)


def precision_by_hand(score_N, label_N):
    """Mean over the positives of the share of positives among those that score as much or more."""
    positives = np.flatnonzero(label_N)
    return np.mean([label_N[score_N >= score_N[i]].mean() for i in positives])


def test_map_is_the_mean_over_classes_with_positives():
    rng = np.random.default_rng(1)
    scores_NK = rng.uniform(size=(60, 7))
    labels_NK = (rng.uniform(size=(60, 7)) < 0.2).astype(np.uint8)
    labels_NK[:, 3] = 0
    found = multi_label_metrics(scores_NK, labels_NK)
    precisions = [precision_by_hand(scores_NK[:, k], labels_NK[:, k]) for k in range(7) if k != 3]
    assert found["map"] == pytest.approx(np.mean(precisions))
    right_NK = np.where(labels_NK, scores_NK, 1 - scores_NK)
    assert found["loss"] == pytest.approx(-np.log(right_NK).mean())


def test_perfect_scores_give_a_map_of_one_and_no_labels_are_refused():
    labels_NK = np.eye(4, dtype=np.uint8)
    assert multi_label_metrics(labels_NK.astype(float), labels_NK)["map"] == 1
    with pytest.raises(UserError, match="no video of the evaluation split carries a label"):
        multi_label_metrics(labels_NK.astype(float), 0 * labels_NK)


def test_the_headline_is_top1_or_map():
    assert headline({"loss": 1.0, "top1": 0.5, "top5": 0.9}) == 0.5
    assert headline({"loss": 1.0, "map": 0.25}) == 0.25
    assert format_headline({"loss": 1.0, "map": 0.25}) == "mAP 25.0%"
    assert format_headline({"loss": 1.0, "top1": 0.5}) == "top-1 50.0%"
