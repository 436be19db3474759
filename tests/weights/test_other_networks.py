"""Published networks by name: files of three code bases give the logits of their own code."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.base import as_variant, get_base
from mg_jax.models import create_model
from mg_jax.weights.layout import to_variables
from mg_jax.weights.load import load_weights
from tests.published import assert_logits, fresh

NON_LOCAL = ((1, 1), (1, 3), (2, 1), (2, 3), (2, 5))
SIX_OF_23 = [3] * 6 + [1] * 17


SLOW_NON_LOCAL = ((1, 0), (1, 2), (2, 0), (2, 2), (2, 4))
IN_SIX_OF_23 = [[1], [1], SIX_OF_23, [3]], [[3], [3], SIX_OF_23, [3]]
STRIDED = {"conv1_stride_t": 2, "pool1_stride_t": 2, "with_pool2": True}

# Networks by name: the frames of a clip, fewer than in training, and the restatement of `nets`,
# tests.torch_networks, or `mm`, tests.torch_mmaction.
NETWORKS = {
    "i3d_nln_8x8_r50": (
        4,
        lambda nets, mm: nets.PySlowFastResNet(5, nets.I3D_KERNELS, 2, NON_LOCAL),
    ),
    "i3d_8x8_r50": (5, lambda nets, mm: nets.PyTorchVideoResNet(5, nets.I3D_KERNELS, 2)),
    "slowfast_4x16_r50": (16, lambda nets, mm: nets.PyTorchVideoSlowFast(50, 8, 5)),
    "slowfast_16x8_r101_50_50": (
        8,
        lambda nets, mm: nets.PyTorchVideoSlowFast(101, 4, 5, *IN_SIX_OF_23),
    ),
    "mmaction_slowfast_8x8_r50": (16, lambda nets, mm: mm.SlowFast(4, 7)),
    "mmaction_slowonly_nl_8x8_r50": (
        4,
        lambda nets, mm: mm.Recognizer3D(
            mm.ResNet3d(
                1, nets.SLOW_KERNELS, non_local=(SLOW_NON_LOCAL, ("embedded_gaussian", True))
            )
        ),
    ),
    "mmaction_i3d_nl_embedded_gaussian_32x2_r50": (
        16,
        lambda nets, mm: mm.Recognizer3D(
            mm.ResNet3d(
                5, nets.I3D_KERNELS, non_local=(NON_LOCAL, ("embedded_gaussian", False)), **STRIDED
            )
        ),
    ),
    "mmaction_c2d_8x8_r50": (4, lambda nets, mm: mm.Recognizer3D(mm.C2D())),
}


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
        from tests import torch_mmaction, torch_networks

        frames, build = NETWORKS[name]
        network = torch_networks.randomised(build(torch_networks, torch_mmaction))
        clips_BTHWC = np.random.default_rng(1).normal(size=(2, frames, 32, 32, 3))
        clips_BTHWC = clips_BTHWC.astype(np.float32)
        with torch.no_grad():
            logits = network(torch.from_numpy(clips_BTHWC).permute(0, 4, 1, 2, 3).contiguous())
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file({k: v.numpy().copy() for k, v in network.state_dict().items()}, path)
        return path, clips_BTHWC, logits.numpy()

    return made


def logits_of(config, variables, clips_BTHWC):
    model = create_model(config.model, train=False)
    quickly = {"xla_backend_optimization_level": 0}
    return jax.jit(model.apply, compiler_options=quickly)(variables, clips_BTHWC)


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
