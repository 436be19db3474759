"""What an evaluation gets right and wrong, class by class, from every video's scores."""

import dataclasses

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, confusion_matrix

from mg_jax.workdir.video_scores import VideoScores

_BINS = 10  # of confidence
_PAIRS = 20  # of classes that are confused most
MATRIX = 16  # classes of a matrix that can be read


@dataclasses.dataclass(frozen=True)
class ClassResult:
    """How the videos of a class came out.

    Attributes:
      name: of the class.
      videos: that carry its label.
      accuracy: share of them whose highest score is the class's; with several labels, None.
      average_precision: of its scores over all videos; None where no video carries it.
    """

    name: str
    videos: int
    accuracy: float | None
    average_precision: float | None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Videos of one class that were taken for another one.

    Attributes:
      label: the class.
      predicted: the class with the highest score.
      videos: how many.
      share: of the class's videos.
    """

    label: str
    predicted: str
    videos: int
    share: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How often scores of about one size are right, in bins of equal width that are not empty.

    Attributes:
      confidence_P: mean score of a bin.
      right_P: share of a bin that is right.
      counts_P: scores in a bin.
      error: mean of |confidence - right|, weighted by counts (expected calibration error).
    """

    confidence_P: np.ndarray
    right_P: np.ndarray
    counts_P: np.ndarray
    error: float


def class_results(scores: VideoScores) -> list[ClassResult]:
    """The results of all classes, the worst first; those without videos last."""
    best_N = scores.scores_NK.argmax(1)
    results = []
    for k, name in enumerate(scores.classes):
        own_N = scores.labels_NK[:, k] > 0
        videos = int(own_N.sum())
        accuracy = precision = None
        if videos:
            own_scores_N = np.nan_to_num(scores.scores_NK[:, k].astype(np.float64))
            precision = float(average_precision_score(own_N, own_scores_N))
            if not scores.multi_label:
                accuracy = float((best_N[own_N] == k).mean())
        results.append(ClassResult(name, videos, accuracy, precision))
    return sorted(results, key=_worst_first)


def _worst_first(result: ClassResult) -> tuple[bool, float, float]:
    if not result.videos:
        return True, 0.0, 0.0
    accuracy = result.average_precision if result.accuracy is None else result.accuracy
    return False, accuracy, result.average_precision


def confusion(scores: VideoScores) -> np.ndarray | None:
    """Videos by class and predicted class, `K K` int64; None with several labels."""
    if scores.multi_label:
        return None
    labels_N, best_N = scores.labels_NK.argmax(1), scores.scores_NK.argmax(1)
    return confusion_matrix(labels_N, best_N, labels=np.arange(len(scores.classes)))


def confused_pairs(matrix_KK: np.ndarray, classes: list[str]) -> list[Pair]:
    """The pairs of classes that are confused most often, most videos first."""
    wrong_KK = matrix_KK - np.diag(np.diag(matrix_KK))
    order = np.argsort(-wrong_KK, axis=None, kind="stable")[:_PAIRS]
    pairs = []
    for j, k in zip(*np.unravel_index(order, wrong_KK.shape), strict=True):
        if wrong_KK[j, k]:
            share = float(wrong_KK[j, k] / matrix_KK[j].sum())
            pairs.append(Pair(classes[j], classes[k], int(wrong_KK[j, k]), share))
    return pairs


def shown_classes(matrix_KK: np.ndarray) -> np.ndarray:
    """Indices, ascending, of the classes with the most mistakes, as many as a picture has room."""
    wrong_KK = matrix_KK - np.diag(np.diag(matrix_KK))
    mistakes_K = wrong_KK.sum(0) + wrong_KK.sum(1)
    return np.sort(np.argsort(-mistakes_K, kind="stable")[:MATRIX])


def calibration(scores: VideoScores) -> Calibration:
    """Of each video's highest score; with several labels, of all scores."""
    if scores.multi_label:
        confidence_M, right_M = scores.scores_NK.ravel(), scores.labels_NK.ravel() > 0
    else:
        confidence_M = scores.scores_NK.max(1)
        right_M = scores.labels_NK[np.arange(len(confidence_M)), scores.scores_NK.argmax(1)] > 0
    confidence_M = np.clip(np.nan_to_num(confidence_M.astype(np.float64)), 0, 1)
    right_P, confidence_P = calibration_curve(right_M, confidence_M, n_bins=_BINS)
    # As calibration_curve sorts into bins.
    bins_M = np.searchsorted(np.linspace(0, 1, _BINS + 1)[1:-1], confidence_M)
    counts_P = np.bincount(bins_M, minlength=_BINS)
    counts_P = counts_P[counts_P > 0]
    error = float(np.average(np.abs(confidence_P - right_P), weights=counts_P))
    return Calibration(confidence_P, right_P, counts_P, error)
