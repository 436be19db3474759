import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mg_jax.models import create_model
from mg_jax.training.optimizer import create_optimizer, decayed, with_learning_rate
from tests import tiny


def test_updates_are_nesterov_sgd_with_the_rate_of_each_iteration():
    config = ConfigDict({"momentum": 0.9, "nesterov": True, "weight_decay": 0.01})
    optimizer = create_optimizer(config)
    rng = np.random.default_rng(0)
    params = {"a": {"kernel": rng.normal(size=3)}, "a_bn": {"scale": rng.normal(size=3)}}
    expected = jax.tree.map(np.copy, params)
    velocity = jax.tree.map(np.zeros_like, params)
    state = optimizer.init(params)
    for rate in (0.1, 0.5, 0.02):
        grads = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        state = with_learning_rate(state, jnp.float32(rate))
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        for name, leaf in (("a", "kernel"), ("a_bn", "scale")):
            decay = 0.01 if name == "a" else 0.0
            g = grads[name][leaf] + decay * expected[name][leaf]
            velocity[name][leaf] = 0.9 * velocity[name][leaf] + g
            expected[name][leaf] = expected[name][leaf] - rate * (g + 0.9 * velocity[name][leaf])
            np.testing.assert_allclose(params[name][leaf], expected[name][leaf], rtol=1e-5)


def test_only_scales_and_biases_of_batch_norms_escape_weight_decay():
    model = create_model(tiny.get_config().model, train=False)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3)))["params"]
    for path, decays in jax.tree_util.tree_leaves_with_path(decayed(params)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert decays == (name.endswith("kernel") or name == "head/projection/bias"), name
