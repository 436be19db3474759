"""Metrics of the scores of test videos."""

from collections.abc import Container

import numpy as np

from mg_jax.errors import UserError

NAMES = {"top1": "top-1", "top5": "top-5", "map": "mAP"}  # as they are printed
_TINY = np.finfo(np.float32).tiny


def single_label_metrics(scores_NK: np.ndarray, label_N: np.ndarray) -> dict[str, float]:
    """Cross entropy `loss`, and the accuracies `top1` and `top5` in 0 ... 1.

    Args:
      scores_NK: probabilities of N videos and K classes, float.
      label_N: indices of the true classes, int.
    """
    own_N1 = np.take_along_axis(scores_NK, label_N[:, None], 1)
    # Of equal scores the lower class index ranks first; NaN ranks last.
    earlier_NK = np.arange(scores_NK.shape[1]) < label_N[:, None]
    rank_N = ((scores_NK > own_N1) | ((scores_NK == own_N1) & earlier_NK)).sum(1)
    rank_N = np.where(np.isnan(own_N1[:, 0]), scores_NK.shape[1], rank_N)
    loss_N = -np.log(np.maximum(own_N1[:, 0].astype(np.float64), _TINY))
    return {
        "loss": float(loss_N.mean()),
        "top1": float((rank_N < 1).mean()),
        "top5": float((rank_N < 5).mean()),
    }


def multi_label_metrics(scores_NK: np.ndarray, labels_NK: np.ndarray) -> dict[str, float]:
    """Binary cross entropy `loss`, and `map`, mean average precision over the classes that occur.

    Args:
      scores_NK: probabilities of N videos and K labels, float.
      labels_NK: 1 for the labels of a video, 0 for the others.

    Raises:
      UserError: if no video has any label.
    """
    # Here, since few runs need it and it is slow to import.
    from sklearn.metrics import average_precision_score

    occurring = np.flatnonzero(labels_NK.any(0))
    if not len(occurring):
        raise UserError("no video of the evaluation split carries a label")
    # NaN ranks last.
    scores_NK = np.nan_to_num(scores_NK.astype(np.float64), nan=0.0)
    precisions = [average_precision_score(labels_NK[:, k], scores_NK[:, k]) for k in occurring]
    right_NK = np.where(labels_NK > 0, scores_NK, 1 - scores_NK)
    loss = -np.log(np.maximum(right_NK, _TINY)).mean()
    return {"loss": float(loss), "map": float(np.mean(precisions))}


def headline_metric(metrics: Container[str]) -> str:
    """Name of the metric that checkpoints are compared by: `map` if there is one, else `top1`."""
    return "map" if "map" in metrics else "top1"


def headline(metrics: dict[str, float]) -> float:
    """The headline metric's value."""
    return metrics[headline_metric(metrics)]


def format_headline(metrics: dict[str, float]) -> str:
    """Text: the headline metric's name and its value in percent."""
    return f"{NAMES[headline_metric(metrics)]} {headline(metrics):.1%}"
