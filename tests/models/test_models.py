from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs.base import get_base
from mg_jax.errors import UserError
from mg_jax.models import create_model
from mg_jax.models.conv import Conv
from mg_jax.models.non_local import NonLocal
from mg_jax.models.norm import SubBatchNorm
from mg_jax.models.slowfast import slow_frames
from mg_jax.runtime import xla_options
from tests.models.variables import initialised


def model_config(**changes):
    config = get_base().model
    config.update({"depth": 14, "width": 8, "alpha": 2, "beta": 0.25, "num_classes": 7})
    config.update({"dropout": 0.0, **changes})
    return config


def shapes_of(config, frames=8):
    model = create_model(config, train=False)
    clips = jax.ShapeDtypeStruct((1, frames, 64, 64, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), clips)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"name": "slowfast"}, 34_566_488),
        ({"name": "i3d"}, 32_454_096),
        # Five blocks of 2 C^2 weights each, with 5 C / 2 biases and 2 C of the norm: C = 512 twice,
        # 1024 three times.
        (
            {"name": "i3d", "non_local": {"positions": ((), (1, 3), (1, 3, 5), ())}},
            32_454_096 + 2 * (2 * 512**2 + 2304) + 3 * (2 * 1024**2 + 4608),
        ),
        (
            {"name": "slowfast", "non_local": {"positions": ((), (1, 3), (1, 3, 5), ())}},
            34_566_488 + 2 * (2 * 512**2 + 2304) + 3 * (2 * 1024**2 + 4608),
        ),
        # 17 more blocks in res4: 1024 x 256 x 3, 256 x 256 x 9, 256 x 1024, norms of 1536 channels.
        (
            {"name": "i3d", "depth": 101},
            32_454_096 + 17 * (1024 * 256 * 3 + 256 * 256 * 9 + 256 * 1024 + 2 * 1536),
        ),
        (
            {"name": "slowfast", "depth": 101},
            34_566_488
            + 17 * (1024 * 256 * 3 + 256 * 256 * 9 + 256 * 1024 + 2 * 1536)
            + 17 * (128 * 32 * 3 + 32 * 32 * 9 + 32 * 128 + 2 * 192),
        ),
    ],
)
def test_parameter_counts_are_those_of_the_published_models(changes, count):
    published = {"depth": 50, "width": 64, "alpha": 4, "beta": 1 / 8, "num_classes": 400}
    config = model_config(**{**published, **changes})
    leaves = jax.tree.leaves(shapes_of(config)["params"])
    assert sum(np.prod(leaf.shape) for leaf in leaves) == count


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_r101_has_23_blocks_in_res4(name):
    params = shapes_of(model_config(name=name, depth=101))["params"]
    blocks = {key for key in params["s4"] if key.startswith("pathway0")}
    assert blocks == {f"pathway0_res{i}" for i in range(23)}


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_one_set_of_variables_serves_all_grids_and_both_dtypes_which_stay_close(name):
    # Ones in place of all-zero scales and biases, so that every block counts.
    variables = jax.tree.map(
        lambda x: x if x.ndim > 1 or x.any() else x + 1,
        initialised(create_model(model_config(name=name), train=False)),
    )
    rng = np.random.default_rng(0)
    clips_BTHWC = rng.normal(size=(4, 8, 45, 45, 3)).astype(np.float32)
    results = {}
    for frames, size, dtype in [(4, 45, "float32"), (8, 32, "float32"), (8, 32, "bfloat16")]:
        model = create_model(model_config(name=name, dtype=dtype), train=True, sub_batch=4)
        apply = jax.jit(
            partial(model.apply, mutable=["batch_stats"]),
            compiler_options=xla_options.for_once("cpu"),
        )
        logits, updated = apply(variables, clips_BTHWC[:, :frames, :size, :size])
        assert logits.shape == (4, 7)
        assert logits.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))
        assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(
            variables["batch_stats"]
        )
        results[frames, dtype] = logits
    expected = results[8, "float32"]
    np.testing.assert_allclose(results[8, "bfloat16"], expected, atol=0.2 * np.std(expected))


def test_slow_pathway_takes_frames_from_first_to_last():
    np.testing.assert_array_equal(slow_frames(16, 4), [0, 5, 10, 15])
    np.testing.assert_array_equal(slow_frames(32, 4), [0, 4, 8, 13, 17, 22, 26, 31])


def test_last_bn_of_each_block_starts_at_zero_and_the_classifier_small():
    params = flatten_dict(initialised(create_model(model_config(), train=False))["params"], sep="/")
    for name, value in params.items():
        if name.endswith("/scale"):
            assert np.all(value == (0 if "c_bn" in name else 1)), name
    assert np.std(params["head/projection/kernel"]) == pytest.approx(0.01, rel=0.1)
    kernel = params["s1/pathway0_stem/conv/kernel"]
    fan_out = 8 * 7 * 7
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_out), rel=0.1)


def test_dropout_depends_on_the_clip_not_on_the_number_of_devices():
    from mg_jax.models.parts import first_clip
    from mg_jax.models.resnet3d import Head
    from mg_jax.runtime import parallel

    features = np.ones((8, 1, 1, 1, 64), np.float32)
    eval_head = Head(5, 0.5, train=False, first_clip=lambda _: 0)
    variables = eval_head.init(jax.random.key(0), [features])

    def logits(devices):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
        head = Head(5, 0.5, train=True, first_clip=partial(first_clip, parallel.AXIS))
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


def attend(block, variables, x_BTHWC):
    """The non-local block by loops over positions, in float64."""
    params = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    stats = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["batch_stats"])

    def project(x, name):
        return x @ params[name]["kernel"][0, 0, 0] + params[name]["bias"]

    out = np.empty_like(x_BTHWC)
    pt, ph, pw = block.pool
    for b, clip_THWC in enumerate(x_BTHWC):
        T, H, W, C = clip_THWC.shape
        pooled = [
            clip_THWC[t : t + pt, h : h + ph, w : w + pw].max((0, 1, 2))
            for t in range(0, T - pt + 1, pt)
            for h in range(0, H - ph + 1, ph)
            for w in range(0, W - pw + 1, pw)
        ]
        phi_PD, g_PD = project(np.array(pooled), "conv_phi"), project(np.array(pooled), "conv_g")
        for position in np.ndindex(T, H, W):
            affinity_P = phi_PD @ project(clip_THWC[position], "conv_theta")
            if block.instantiation == "softmax":
                weights_P = np.exp(affinity_P / np.sqrt(C // 2))
                weights_P /= weights_P.sum()
            else:
                weights_P = affinity_P / len(pooled)
            y_C = project(weights_P @ g_PD, "conv_out")
            normed_C = (y_C - stats["bn"]["mean"]) / np.sqrt(stats["bn"]["var"] + 1e-5)
            out[b][position] = clip_THWC[position] + normed_C * params["bn"]["scale"]
            out[b][position] += params["bn"]["bias"]
    return out


@pytest.mark.parametrize("instantiation", ["dot_product", "softmax"])
@pytest.mark.parametrize("pool", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_non_local_blocks_equal_their_definition(instantiation, pool):
    block = NonLocal(instantiation, pool, Conv, partial(SubBatchNorm, sub_batch=1, train=False))
    rng = np.random.default_rng(0)
    x_BTHWC = rng.normal(size=(2, 3, 5, 4, 6))
    variables = block.init(jax.random.key(0), x_BTHWC.astype(np.float32))
    variables = jax.tree.map(lambda v: rng.uniform(0.1, 1, v.shape).astype(np.float32), variables)
    found = block.apply(variables, x_BTHWC.astype(np.float32))
    np.testing.assert_allclose(found, attend(block, variables, x_BTHWC), rtol=1e-4, atol=1e-4)


def test_a_new_non_local_block_passes_its_input_on():
    block = NonLocal(
        "softmax", (1, 2, 2), Conv, partial(SubBatchNorm, sub_batch=2, train=True, momentum=0.9)
    )
    x_BTHWC = np.random.default_rng(0).normal(size=(2, 2, 1, 1, 4)).astype(np.float32)
    out, _ = jax.jit(block.init_with_output)(jax.random.key(0), x_BTHWC)
    np.testing.assert_array_equal(out, x_BTHWC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "slowfats"}, "model.name='slowfats' .* i3d or slowfast"),
        ({"num_classes": 0}, "model.num_classes=0 must be at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0 .* below 1"),
        ({"depth": 51}, "model.depth=51 .* 8, 14, 50, 101"),
        ({"dtype": "float16"}, "model.dtype='float16' is not supported"),
        (
            {"non_local": {"positions": ((), (4,), (), ())}},
            r"model.non_local.positions=.* res2 ... res5.* the stages have \(1, 1, 1, 1\) blocks",
        ),
        ({"non_local": {"positions": (1, 3)}}, "model.non_local.positions="),
        ({"non_local": {"instantiation": "gaussian"}}, "'gaussian' is not known; use dot_product"),
        ({"non_local": {"pool": (2, 2)}}, "model.non_local.pool=.* for time, height and width"),
        ({"beta": 0.01}, "model.beta=0.01 of model.width=8 leaves the fast pathway without"),
        ({"stem_frames": 4}, "model.stem_frames=4 must be odd"),
        ({"fusion_frames": 0}, "model.fusion_frames=0 must be odd"),
        ({"stage_frames": (1, 1, 3, 3)}, "model.stage_frames=.* for each of res2 ... res5, odd"),
        ({"fast_stage_frames": ((3,), (3,), (2,), (3,))}, "model.fast_stage_frames=.* odd kernel"),
        ({"slow_frames": "first"}, "model.slow_frames='first' is not known; use spread or every"),
        ({"stem_stride": 2}, "model.stem_stride=2 must be 1 with model.name=slowfast"),
        ({"name": "i3d", "pool_frames": 0}, "model.pool_frames=0 must be at least 1"),
    ],
)
def test_models_that_do_not_exist_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        create_model(model_config(**changes), train=True)
