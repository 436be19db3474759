from functools import partial

import jax
import numpy as np
import pytest

from mg_jax.models.drop_path import DropPath, drop_path_at
from mg_jax.models.parts import first_clip
from mg_jax.runtime import parallel


def dropped(x, devices, rate=0.3):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
    module = DropPath(rate, partial(first_clip, parallel.AXIS))
    mapped = parallel.pmap(
        lambda x: module.apply({}, x, rngs={"dropout": jax.random.key(3)}),
        mesh,
        (parallel.SPLIT,),
        parallel.SPLIT,
    )
    return np.asarray(mapped(parallel.shard(x, mesh)))


def test_whole_clips_are_dropped_and_the_mean_stays_on_any_number_of_devices():
    x = np.random.default_rng(0).normal(size=(1000, 2, 2, 2, 3)).astype(np.float32)
    y = dropped(x, 1)
    kept_B = y.any((1, 2, 3, 4))
    assert kept_B.mean() == pytest.approx(0.7, abs=0.05)
    np.testing.assert_allclose(y[kept_B], x[kept_B] / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(dropped(x, 4), y)


def test_the_rate_rises_evenly_from_the_first_block_to_the_last():
    places = [(s, j) for s, blocks in enumerate((3, 4, 6, 3)) for j in range(blocks)]
    rates = [drop_path_at(0.3, 50, None, place).rate for place in places]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 16))
