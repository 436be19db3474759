"""Pixels as the published networks were given them."""

import jax
import numpy as np

from configs.base import as_variant, get_base
from mg_jax.training.preprocess import normalize

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 4, 3), np.uint8)


def test_one_mean_and_deviation_for_all_colours_are_numbers_in_the_program():
    data = get_base().data
    given, plain = (
        jax.jit(form).lower(PIXELS).as_text()
        for form in (
            lambda x: normalize(x, data),
            lambda x: (x.astype(np.float32) / 255 - 0.45) / 0.225,
        )
    )
    assert given.splitlines()[1:] == plain.splitlines()[1:]


def test_mmactions_networks_get_its_normalisation_of_0_to_255():
    data = as_variant(get_base(), "mmaction_slowonly_8x8_r50").data
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    np.testing.assert_allclose(normalize(PIXELS, data), (PIXELS - mean) / std, atol=1e-6)
