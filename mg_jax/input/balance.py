"""Classes that are drawn more evenly than they occur."""

import numpy as np

from data.format.video_table import VideoTable

# Weights are counted in this many parts of the largest, as whole numbers, whose sums are exact.
_PARTS = 1 << 32


def video_weights(videos: VideoTable, exponent: float) -> np.ndarray:
    """How often each video is drawn, relative to others, `N` int64.

    With n_c the number of videos of class c it is n_c^(exponent - 1), so that the class is drawn
    n_c^exponent times as often as one of a single video. Of several labels the rarest counts
    (Gupta, Dollar and Girshick, CVPR 2019); a video without any counts as one of a class that all
    have.

    Args:
      videos: of the training split.
      exponent: 0 for equal classes, 1 for equal videos.
    """
    actions = videos.actions
    # A label may occur several times in a video.
    row, label = np.unique(np.stack([actions.row, actions.label]), axis=1)
    count = np.bincount(label, minlength=videos.classes)
    rarest_N = np.full(len(videos), len(videos))
    np.minimum.at(rarest_N, row, count[label])
    weight_N = rarest_N ** (exponent - 1.0)
    return np.rint(weight_N / weight_N.max() * _PARTS).astype(np.int64)


def systematic_rows(weight_N: np.ndarray, offset: float) -> np.ndarray:
    """N rows, each about as often as its weight says: N w / sum w times, rounded up or down.

    They lie where N equal steps from an offset fall into the running sum of weights.

    Args:
      weight_N: int64.
      offset: of the first step, in [0, 1) steps.
    """
    N, total = len(weight_N), weight_N.sum()
    steps_N = (np.arange(N) + offset) * (total / N)
    return np.searchsorted(np.cumsum(weight_N), steps_N, side="right").clip(max=N - 1)
