import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import charades_slowfast
from configs.base import get_base
from mg_jax.errors import UserError
from mg_jax.models import create_model
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime.state import TrainState
from mg_jax.training.average import averaged, to_evaluate, with_average
from mg_jax.training.network_stages import frozen
from mg_jax.training.optimizer import create_optimizer, decayed, with_learning_rate
from tests import runs, tiny

RATES = (0.1, 0.5, 0.02)


def updated(params, draw, **changes):
    """Parameters after an update at each of RATES, and the gradients."""
    config = get_base().optimizer
    config.update(changes)
    optimizer = create_optimizer(config)
    state, history = optimizer.init(params), []
    for rate in RATES:
        grads = jax.tree.map(lambda p: draw(p.shape), params)
        state = with_learning_rate(state, jnp.float32(rate))
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        history.append(grads)
    return params, history


def random_params(rng, *modules):
    return {name: {"kernel": normal(rng, 3)} for name in modules}


def normal(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


def test_updates_are_nesterov_sgd_with_the_rate_of_each_iteration():
    rng = np.random.default_rng(0)
    params = {"a": {"kernel": rng.normal(size=3)}, "a_bn": {"scale": rng.normal(size=3)}}
    expected = jax.tree.map(np.copy, params)
    velocity = jax.tree.map(np.zeros_like, params)
    params, history = updated(params, lambda s: rng.normal(size=s), weight_decay=0.01)
    for rate, grads in zip(RATES, history, strict=True):
        for name, leaf in (("a", "kernel"), ("a_bn", "scale")):
            decay = 0.01 if name == "a" else 0.0
            g = grads[name][leaf] + decay * expected[name][leaf]
            velocity[name][leaf] = 0.9 * velocity[name][leaf] + g
            expected[name][leaf] = expected[name][leaf] - rate * (g + 0.9 * velocity[name][leaf])
    for name, leaf in (("a", "kernel"), ("a_bn", "scale")):
        np.testing.assert_allclose(params[name][leaf], expected[name][leaf], rtol=1e-5)


def test_adamw_decays_apart_from_the_gradient_slower_in_early_stages_and_clipped():
    rng = np.random.default_rng(0)
    exponents = {"s1": 5, "s1_fuse": 5, "s3": 3, "head": 0}
    params = random_params(rng, *exponents)
    expected = {name: module["kernel"].copy() for name, module in params.items()}
    mean, square = ({name: np.zeros(3) for name in params} for _ in range(2))
    settings = {"weight_decay": 0.1, "betas": (0.8, 0.9), "layer_decay": 0.75, "clip_norm": 2.0}
    params, history = updated(params, lambda s: normal(rng, s), name="adamw", **settings)
    for t, (rate, grads) in enumerate(zip(RATES, history, strict=True), 1):
        norm = np.sqrt(sum(np.sum(module["kernel"] ** 2) for module in grads.values()))
        assert norm > 2.0
        for name, exponent in exponents.items():
            g = grads[name]["kernel"] * 2.0 / norm
            mean[name] = 0.8 * mean[name] + 0.2 * g
            square[name] = 0.9 * square[name] + 0.1 * g**2
            step = mean[name] / (1 - 0.8**t) / (np.sqrt(square[name] / (1 - 0.9**t)) + 1e-8)
            expected[name] -= rate * 0.75**exponent * (step + 0.1 * expected[name])
    for name, values in expected.items():
        np.testing.assert_allclose(params[name]["kernel"], values, rtol=1e-5)


def test_a_gradient_within_the_norm_is_not_clipped():
    rng = np.random.default_rng(0)
    params = random_params(rng, "s1", "head")
    draws = normal(rng, (6, 3))
    results = []
    for norm in (0.0, 100.0):
        left = list(draws)
        results.append(updated(params, lambda _, left=left: left.pop(), clip_norm=norm)[0])
    np.testing.assert_array_equal(*(result["head"]["kernel"] for result in results))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_frozen_stages_keep_their_bits_and_others_train(name):
    rng = np.random.default_rng(0)
    params = random_params(rng, "s1", "s1_fuse", "s2", "s3", "head")

    def loss(params):
        kernels = [module["kernel"] for module in frozen(params, "res2").values()]
        return sum(jnp.sum(kernel**3) for kernel in kernels)

    config = get_base().optimizer
    config.update(name=name, freeze="res2", weight_decay=0.1)
    optimizer = create_optimizer(config)
    state = with_learning_rate(optimizer.init(params), jnp.float32(0.1))
    updates, _ = optimizer.update(jax.grad(loss)(params), state, params)
    moved = {name for name, module in updates.items() if np.any(module["kernel"])}
    assert moved == {"s3", "head"}


def test_a_network_without_stages_cannot_be_frozen():
    with pytest.raises(UserError, match=r"optimizer\.freeze"):
        frozen({"stem": {"kernel": np.ones(3)}}, "stem")


def test_the_average_moves_further_on_coarser_grids_and_is_what_is_evaluated():
    config = tiny.get_config()
    config.optimizer.average = 0.6
    rng = np.random.default_rng(0)
    state = averaged(TrainState(jnp.int32(0), {"w": jnp.zeros(3)}, {}, ()))
    expected = np.zeros(3)
    for i, clips in enumerate((8, 64, 16, 8, 8)):
        params = rng.normal(size=3).astype(np.float32)
        state = state.replace(step=state.step + 1, params={"w": params})
        state = with_average(config, state, clips)
        decay = min(0.6 ** (clips / 8), (1 + i) / (10 + i))
        expected = decay * expected + (1 - decay) * params
    np.testing.assert_allclose(state.average["w"], expected, rtol=1e-5)
    assert to_evaluate(state).params is state.average


def test_only_scales_and_biases_of_batch_norms_escape_weight_decay():
    model = create_model(tiny.get_config().model, train=False)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3)))["params"]
    for path, decays in jax.tree_util.tree_leaves_with_path(decayed(params)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert decays == (name.endswith("kernel") or name == "head/projection/bias"), name


@pytest.mark.parametrize(
    ("variant", "cycles", "factors"),
    [
        ("baseline", {}, {1}),
        ("multigrid", {"multigrid.single_cycle": True}, {8, 4, 2, 1}),
    ],
)
def test_a_cosine_with_warm_up_is_optaxs_over_the_clips_times_the_long_cycles_factors(
    variant, cycles, factors
):
    changes = {"cosine": True, "warmup_iterations": 2000, "warmup_learning_rate": 1e-4}
    changes = {f"schedule.{name}": value for name, value in changes.items()}
    config = runs.config_of(charades_slowfast, variant, **changes, **cycles)
    schedule = schedule_from_config(config)
    steps = range(schedule.iterations)
    clips_N = np.array([schedule.position(step) for step in steps])
    factor_N = np.array([schedule.phase(step).grids[-1].batch / config.batch for step in steps])
    assert set(factor_N) == factors
    peak = config.schedule.learning_rate
    falling_N = factor_N * optax.cosine_decay_schedule(peak, schedule.clips)(clips_N)
    warmup = 2000 * config.batch
    reached = float(falling_N[np.searchsorted(clips_N, warmup)])
    rising_N = optax.linear_schedule(1e-4, reached, warmup)(clips_N)
    expected_N = np.where(clips_N < warmup, rising_N, falling_N)
    rate_N = [schedule.learning_rate(step) for step in steps]
    np.testing.assert_allclose(rate_N, expected_N, rtol=1e-4, atol=1e-7 * peak)
