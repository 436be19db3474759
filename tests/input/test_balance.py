import dataclasses

import numpy as np
import pytest

from data.format.video_table import Actions
from mg_jax.input import sampling
from mg_jax.input.balance import systematic_rows, video_weights
from mg_jax.input.sampling import Augmentation, sample_clips
from tests.input.test_sampling import FULL, make_videos

COUNTS = np.array([1, 4, 25, 100])  # videos of each class


@pytest.fixture
def videos():
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS)).astype(np.int32)
    row = np.arange(len(label))
    actions = Actions(row, label, np.zeros_like(row), np.full_like(row, 10**6))
    return dataclasses.replace(make_videos(len(label)), actions=actions, classes=4)


def rows(videos, exponent, first, count):
    augmentation = Augmentation(3, flip=True, inverse_uniform=False, class_exponent=exponent)
    return sample_clips(videos, FULL, augmentation, first, count).rows_B


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.75])
def test_classes_are_drawn_as_often_as_their_count_to_the_exponent(videos, exponent):
    N, epochs = len(videos), 100
    drawn = rows(videos, exponent, 0, epochs * N)
    share = COUNTS**exponent / np.sum(COUNTS**exponent)
    found = np.bincount(videos.label(drawn), minlength=4)
    np.testing.assert_allclose(found / len(drawn), share, atol=4 / N / np.sqrt(epochs))
    # Within a class all videos are drawn equally often.
    by_video = np.bincount(drawn[videos.label(drawn) == 3], minlength=N)
    expected = epochs * N * share[3] / COUNTS[3]
    assert np.abs(by_video[videos.label(np.arange(N)) == 3] - expected).max() < 6 * epochs**0.5


def test_an_epoch_draws_each_video_as_often_as_its_weight_rounded(videos):
    N, weight_N = len(videos), video_weights(videos, 0.5)
    for epoch in range(3):
        found = np.bincount(rows(videos, 0.5, epoch * N, N), minlength=N)
        exact = N * weight_N / weight_N.sum()
        assert np.all((found == np.floor(exact)) | (found == np.ceil(exact)))


def test_a_position_is_drawn_the_same_however_the_batch_is_cut(videos):
    whole = rows(videos, 0.5, 100, 300)
    for first, count in ((100, 1), (129, 40), (388, 12)):
        part = rows(videos, 0.5, first, count)
        np.testing.assert_array_equal(part, whole[first - 100 :][:count])
    assert not np.array_equal(whole[:130], rows(videos, 0.5, 230, 130))


def test_an_exponent_of_one_is_the_plain_permutation(videos):
    plain = sampling.video_rows(3, len(videos), 40, 200)
    np.testing.assert_array_equal(rows(videos, 1.0, 40, 200), plain)
    every = systematic_rows(video_weights(videos, 1.0), 0.7)
    np.testing.assert_array_equal(every, np.arange(len(videos)))


def test_of_several_labels_the_rarest_counts():
    row = np.array([0, 0, 0, 1, 3])
    label = np.array([0, 1, 1, 0, 0], np.int32)
    actions = Actions(row, label, np.zeros(5, int), np.ones(5, int))
    videos = dataclasses.replace(make_videos(4), actions=actions, classes=2)
    # Class 0 has three videos, class 1 has one, twice; video 2 has no label.
    weight_N = video_weights(videos, 0.0)
    np.testing.assert_allclose(weight_N / weight_N[0], [1, 1 / 3, 1 / 4, 1 / 3], rtol=1e-6)
