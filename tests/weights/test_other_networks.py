"""Published networks by name: files of three code bases give the logits of their own code."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.base import as_variant, get_base
from mg_jax.models import create_model
from mg_jax.runtime import xla_options
from mg_jax.tools.convert import convert
from mg_jax.training.state import init_variables
from mg_jax.weights.files import WeightsError, read_tensors
from mg_jax.weights.layout import to_variables
from mg_jax.weights.load import load_weights
from tests import published_files
from tests.published import assert_logits, fresh
from tests.published_files import NETWORKS


def config_of(*words, **model):
    """A recipe with a published network, an eighth of its width and ten classes."""
    config = as_variant(get_base(), ",".join(words))
    config.model.update({"width": 8, "num_classes": 10, "dropout": 0.0, **model})
    return config


@pytest.fixture(scope="module")
def published(tmp_path_factory, torch):
    """Makes a network's file; returns its path, clips and the logits of the network's own code."""

    @functools.cache
    def made(name):
        clips_BTHWC = np.random.default_rng(1).normal(size=(2, NETWORKS[name][0], 32, 32, 3))
        clips_BTHWC = clips_BTHWC.astype(np.float32)
        path, network = published_files.write(name, tmp_path_factory.mktemp("weights"))
        with torch.no_grad():
            logits = network(torch.from_numpy(clips_BTHWC).permute(0, 4, 1, 2, 3).contiguous())
        return path, clips_BTHWC, logits.numpy()

    return made


def logits_of(config, variables, clips_BTHWC):
    model = create_model(config.model, train=False)
    return jax.jit(model.apply, compiler_options=xla_options.for_once("cpu"))(
        variables, clips_BTHWC
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_gives_the_logits_of_its_own_code(name, published):
    path, clips_BTHWC, logits = published(name)
    config = config_of(name)
    weights = load_weights(path, fresh(config), config=config)
    account = weights.account
    assert not account.unused
    assert not account.initialised
    assert account.remark == ""
    assert_logits(logits_of(config, to_variables(weights.tensors), clips_BTHWC), logits)


# Millions of parameters as PyTorchVideo's and mmaction2's tables of models state them.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("c2d_8x8_r50", 24.33),
        ("i3d_8x8_r50", 28.04),
        ("slow_4x16_r50", 32.45),
        ("slowfast_4x16_r50", 34.48),
        ("slowfast_8x8_r50", 34.57),
        ("slowfast_8x8_r101", 62.83),
        ("slowfast_16x8_r101_50_50", 53.77),
        ("mmaction_c2d_nopool_8x8_r101", 43.3),
    ],
)
def test_parameter_counts_are_those_of_the_published_tables(name, millions):
    config = as_variant(get_base(), name)
    shapes = jax.eval_shape(lambda: init_variables(config))["params"]
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) / 1e6
    assert round(count, len(str(millions).split(".")[1])) == millions


def refusal(path, config):
    with pytest.raises(WeightsError) as caught:
        load_weights(path, fresh(config))
    return str(caught.value)


def test_another_fusion_kernel_is_named_with_what_would_fit(published):
    message = refusal(published("slowfast_4x16_r50")[0], config_of())
    assert "model.fusion_frames is 5 there and 7 here" in message
    assert "Published with these shapes: slowfast_4x16_r50; --config=FILE:NAME" in message
    assert "stage_frames" not in message


def test_other_kernels_over_time_are_named_with_what_would_fit(published):
    message = refusal(published("i3d_8x8_r50")[0], config_of("slow_8x8_r50"))
    assert "model.stem_frames is 5 there and 1 here" in message
    assert (
        "model.stage_frames is ((3,),(3,1),(3,1),(1,3)) there and ((1,),(1,),(3,),(3,))" in message
    )
    assert "Published with these shapes: i3d_8x8_r50; " in message


def test_connections_without_batch_norm_are_named_with_what_would_fit(published):
    message = refusal(published("mmaction_slowfast_8x8_r50")[0], config_of())
    assert "model.fusion_norm is False there and True here" in message
    assert "mmaction_slowfast_8x8_r50; " in message


def test_a_network_with_other_pathways_or_blocks_is_told_what_would_fit(published):
    message = refusal(published("mmaction_slowonly_nl_8x8_r50")[0], config_of())
    assert "1 pathway(s)" in message
    assert "mmaction_slowonly_nl_4x16_r50 or mmaction_slowonly_nl_8x8_r50; " in message


def test_what_no_tensor_shows_is_remarked_on(published):
    path = published("slowfast_4x16_r50")[0]
    config = config_of("slowfast_4x16_r50", alpha=4)
    remark = load_weights(path, fresh(config), config=config).account.remark
    assert "slowfast_4x16_r50 has otherwise: model.alpha is 8 there and 4 here;" in remark
    assert remark.endswith("--config=FILE:slowfast_4x16_r50 sets it up")
    # A network may be trained on other clips.
    config = config_of("slowfast_4x16_r50")
    config.frames, config.data.stride = 64, 1
    assert load_weights(path, fresh(config), config=config).account.remark == ""
    # The same kernels, written down block by block.
    config.model.stage_frames = ((1, 1, 1), (1,), (3, 3), (3,))
    assert load_weights(path, fresh(config), config=config).account.remark == ""


def test_mmaction_files_in_a_network_with_the_same_shapes_are_remarked_on(published):
    path = published("mmaction_c2d_8x8_r50")[0]
    config = config_of("c2d_8x8_r50")
    account = str(load_weights(path, fresh(config), config=config).account)
    assert "data.mean is (0.485, 0.456, 0.406) there and (0.45, 0.45, 0.45) here" in account
    assert "model.pad_stem_pool is False there and True here" in account


def test_pytorchvideo_names_below_pyslowfasts_model_are_read(published, tmp_path):
    prefixed = {f"model.{n}": t for n, t in read_tensors(published("i3d_8x8_r50")[0]).items()}
    save_file(prefixed, tmp_path / "w.safetensors")
    config = config_of("i3d_8x8_r50")
    account = load_weights(tmp_path / "w.safetensors", fresh(config)).account
    assert not account.unused
    assert not account.initialised


def test_a_converted_mmaction_file_holds_the_same_network(published, tmp_path):
    config, path = config_of("mmaction_c2d_8x8_r50"), published("mmaction_c2d_8x8_r50")[0]
    first, again = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert "data.mean" not in convert(config, path, first)
    convert(config, first, again)
    assert first.read_bytes() == again.read_bytes()
    theirs = read_tensors(path)["backbone.layer3.2.conv2.conv.weight"]
    ours = read_tensors(first)["s4.pathway0_res2.branch2.b.weight"]
    np.testing.assert_array_equal(ours[:, :, 0], theirs)
