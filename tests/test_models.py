import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import lax
from ml_collections import ConfigDict

from mg_jax.models import create_model
from mg_jax.models.conv import convolve, max_pool_3x3
from mg_jax.models.slowfast import slow_frames


def model_config(**changes):
    config = ConfigDict(
        {
            "name": "slowfast",
            "depth": 14,
            "width": 8,
            "alpha": 2,
            "beta": 0.25,
            "num_classes": 7,
            "dropout": 0.0,
            "dtype": "float32",
        }
    )
    config.update(changes)
    return config


def shapes_of(config, frames=8):
    model = create_model(config, train=False)
    clips = jax.ShapeDtypeStruct((1, frames, 64, 64, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), clips)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"name": "slowfast", "alpha": 4, "beta": 1 / 8}, 34_566_488),
        ({"name": "i3d"}, 32_454_096),
    ],
)
def test_parameter_counts_are_those_of_the_published_models(changes, count):
    config = model_config(depth=50, width=64, num_classes=400, **changes)
    leaves = jax.tree.leaves(shapes_of(config)["params"])
    assert sum(np.prod(leaf.shape) for leaf in leaves) == count


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_r101_has_23_blocks_in_res4(name):
    params = shapes_of(model_config(name=name, depth=101))["params"]
    blocks = {key for key in params["s4"] if key.startswith("pathway0")}
    assert blocks == {f"pathway0_res{i}" for i in range(23)}


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_one_set_of_variables_serves_all_grids_and_both_dtypes(name):
    config = model_config(name=name)
    variables = create_model(config, train=False).init(
        jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3))
    )
    rng = np.random.default_rng(0)
    for frames, size, dtype in [(4, 32, "float32"), (8, 45, "float32"), (8, 32, "bfloat16")]:
        model = create_model(model_config(name=name, dtype=dtype), train=True, sub_batch=2)
        clips = rng.normal(size=(4, frames, size, size, 3)).astype(np.float32)
        logits, updated = jax.jit(lambda v, x, m=model: m.apply(v, x, mutable=["batch_stats"]))(
            variables, clips
        )
        assert logits.shape == (4, 7)
        assert logits.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))
        assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(
            variables["batch_stats"]
        )


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_bfloat16_compute_stays_close_to_float32(name):
    clips = np.random.default_rng(0).normal(size=(4, 8, 32, 32, 3)).astype(np.float32)
    logits = {}
    for dtype in ("float32", "bfloat16"):
        model = create_model(model_config(name=name, dtype=dtype), train=True, sub_batch=4)
        variables = model.init(jax.random.key(0), clips)
        # Ones in place of all-zero scales and biases, so that every block counts.
        variables = jax.tree.map(lambda x: x if x.ndim > 1 or x.any() else x + 1, variables)
        logits[dtype], _ = model.apply(variables, clips, mutable=["batch_stats"])
    spread = np.std(logits["float32"])
    np.testing.assert_allclose(logits["bfloat16"], logits["float32"], atol=0.2 * spread)


@pytest.mark.parametrize("kernel", [(1, 7, 7), (1, 3, 3), (7, 1, 1), (3, 1, 1), (5, 7, 7)])
@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2), (4, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("extent", [(8, 12, 12), (7, 9, 11)])
def test_2d_forms_equal_the_3d_convolution_and_its_gradients(kernel, strides, extent):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *extent, 3)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 3, 4)).astype(np.float32)

    def reference(x, weights):
        return lax.conv_general_dilated(
            x,
            weights,
            strides,
            [(k // 2, k // 2) for k in kernel],
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            precision="highest",
        )

    expected, pull = jax.vjp(reference, x, weights)
    found, pull_found = jax.vjp(lambda x, w: convolve(x, w, strides), x, weights)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    cotangent = rng.normal(size=expected.shape).astype(np.float32)
    for a, b in zip(pull_found(cotangent), pull(cotangent), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_max_pool_equals_the_windowed_one(size):
    x = np.random.default_rng(0).normal(size=(2, 3, *size, 4)).astype(np.float32)
    flat = x.reshape(6, *size, 4)
    expected = flax.linen.max_pool(flat, (3, 3), (2, 2), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(max_pool_3x3(x).reshape(expected.shape), expected)


def test_slow_pathway_takes_frames_from_first_to_last():
    np.testing.assert_array_equal(slow_frames(16, 4), [0, 5, 10, 15])
    np.testing.assert_array_equal(slow_frames(32, 4), [0, 4, 8, 13, 17, 22, 26, 31])


def test_last_bn_of_each_block_starts_at_zero_and_the_classifier_small():
    variables = create_model(model_config(), train=False).init(
        jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3))
    )
    params = flatten_dict(variables["params"], sep="/")
    for name, value in params.items():
        if name.endswith("/scale"):
            assert np.all(value == (0 if "c_bn" in name else 1)), name
    assert np.std(params["head/projection/kernel"]) == pytest.approx(0.01, rel=0.1)
    kernel = params["s1/pathway0_stem/conv/kernel"]
    fan_out = 8 * 7 * 7
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_out), rel=0.1)


def test_dropout_depends_on_the_clip_not_on_the_number_of_devices():
    from mg_jax import parallel
    from mg_jax.models.resnet3d import Head

    features = np.ones((8, 1, 1, 1, 64), np.float32)
    eval_head = Head(5, 0.5, train=False, axis_name=None)
    variables = eval_head.init(jax.random.key(0), [features])

    def logits(devices):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
        head = Head(5, 0.5, train=True, axis_name=parallel.AXIS)
        mapped = parallel.pmap(
            lambda v, x: head.apply(v, [x], rngs={"dropout": jax.random.key(3)}),
            mesh,
            in_specs=(parallel.REPLICATED, parallel.SPLIT),
            out_specs=parallel.SPLIT,
        )
        return np.asarray(
            mapped(parallel.replicate(variables, mesh), parallel.shard(features, mesh))
        )

    one = logits(1)
    assert len(np.unique(one[:, 0])) == 8  # every clip drops other features
    np.testing.assert_allclose(logits(4), one, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "slowfats"}, "model.name='slowfats' is not known; there are i3d, slowfast"),
        ({"depth": 51}, "model.depth=51 does not exist; there are 14, 50, 101"),
        ({"dtype": "float16"}, "model.dtype='float16' is not supported"),
        ({"beta": 0.01}, "model.beta=0.01 of model.width=8 leaves the fast pathway without"),
    ],
)
def test_models_that_do_not_exist_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        create_model(model_config(**changes), train=True)
