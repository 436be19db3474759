"""Files of published networks with random weights, as their own code would write them.

An eighth as wide, ten classes. What differs from them in frames and stride alone is not repeated.
"""

import pathlib

from safetensors.numpy import save_file

_NON_LOCAL = ((1, 1), (1, 3), (2, 1), (2, 3), (2, 5))
_SLOW_NON_LOCAL = ((1, 0), (1, 2), (2, 0), (2, 2), (2, 4))
_SIX_OF_23 = [3] * 6 + [1] * 17
_IN_SIX_OF_23 = [[1], [1], _SIX_OF_23, [3]], [[3], [3], _SIX_OF_23, [3]]
_STRIDED = {"conv1_stride_t": 2, "pool1_stride_t": 2, "with_pool2": True}


def _recognizer(mm, *backbone, **settings):
    return mm.Recognizer3D(mm.ResNet3d(*backbone, **settings))


# Networks by name: the frames of a clip, fewer than in training, and the restatement of `nets`,
# tests.torch_networks, or `mm`, tests.torch_mmaction.
NETWORKS = {
    "slowfast_4x16_r50": (16, lambda nets, mm: nets.PyTorchVideoSlowFast(50, 8, 5)),
    "slowfast_8x8_r101": (8, lambda nets, mm: nets.PyTorchVideoSlowFast(101, 4, 5)),
    "slowfast_16x8_r101_50_50": (
        8,
        lambda nets, mm: nets.PyTorchVideoSlowFast(101, 4, 5, *_IN_SIX_OF_23),
    ),
    "i3d_8x8_r50": (5, lambda nets, mm: nets.PyTorchVideoResNet(5, nets.I3D_KERNELS, 2)),
    "i3d_nln_8x8_r50": (
        4,
        lambda nets, mm: nets.PySlowFastResNet(5, nets.I3D_KERNELS, 2, _NON_LOCAL),
    ),
    "c2d_8x8_r50": (5, lambda nets, mm: nets.PyTorchVideoResNet(1, nets.C2D_KERNELS, 2)),
    "c2d_nopool_8x8_r50": (3, lambda nets, mm: nets.PySlowFastResNet(1, nets.C2D_KERNELS, 1)),
    "mmaction_slowfast_4x16_r50": (16, lambda nets, mm: mm.SlowFast(8, 5)),
    "mmaction_slowfast_8x8_r50": (16, lambda nets, mm: mm.SlowFast(4, 7)),
    "mmaction_slowfast_8x8_r101": (8, lambda nets, mm: mm.SlowFast(4, 7, depth=101)),
    "mmaction_slowonly_8x8_r50": (3, lambda nets, mm: _recognizer(mm, 1, nets.SLOW_KERNELS)),
    "mmaction_slowonly_8x8_r101": (
        3,
        lambda nets, mm: _recognizer(mm, 1, nets.SLOW_KERNELS, depth=101),
    ),
    "mmaction_slowonly_nl_8x8_r50": (
        4,
        lambda nets, mm: _recognizer(
            mm, 1, nets.SLOW_KERNELS, non_local=(_SLOW_NON_LOCAL, ("embedded_gaussian", True))
        ),
    ),
    "mmaction_i3d_32x2_r50": (
        16,
        lambda nets, mm: _recognizer(mm, 5, nets.I3D_KERNELS, **_STRIDED),
    ),
    "mmaction_i3d_heavy_32x2_r50": (
        5,
        lambda nets, mm: _recognizer(mm, 5, ([3], [3], [3], [3]), with_pool2=True),
    ),
    "mmaction_i3d_nl_dot_product_32x2_r50": (
        16,
        lambda nets, mm: _recognizer(
            mm, 5, nets.I3D_KERNELS, non_local=(_NON_LOCAL, ("dot_product", False)), **_STRIDED
        ),
    ),
    "mmaction_i3d_nl_embedded_gaussian_32x2_r50": (
        16,
        lambda nets, mm: _recognizer(
            mm,
            5,
            nets.I3D_KERNELS,
            non_local=(_NON_LOCAL, ("embedded_gaussian", False)),
            **_STRIDED,
        ),
    ),
    "mmaction_c2d_8x8_r50": (4, lambda nets, mm: mm.Recognizer3D(mm.C2D())),
    "mmaction_c2d_nopool_8x8_r50": (3, lambda nets, mm: mm.Recognizer2D(mm.ResNet())),
    "mmaction_c2d_nopool_8x8_r101": (3, lambda nets, mm: mm.Recognizer2D(mm.ResNet(101))),
}


def write(name: str, folder: pathlib.Path):
    """Writes a network's file; returns its path and the network in PyTorch."""
    from tests import torch_mmaction, torch_networks

    network = torch_networks.randomised(NETWORKS[name][1](torch_networks, torch_mmaction))
    path = folder / f"{name}.safetensors"
    save_file({k: v.numpy().copy() for k, v in network.state_dict().items()}, path)
    return path, network
