"""Tensors of mmaction2's files by PySlowFast's names.

Its modules wrap a convolution with its norm: `backbone.layer1.0.conv2.conv.weight` and
`backbone.layer1.0.conv2.bn.weight`. SlowFast's are below `backbone.slow_path` and
`backbone.fast_path`.
"""

import re

import numpy as np

from mg_jax.weights.renaming import renamed

# Rules for what comes behind the pathway, which becomes {p}; stages count from 1 there.
_BACKBONE = (
    (r"conv1\.(conv|bn)\.(.*)", r"s1.pathway{p}_stem.\1.\2"),
    (r"conv1_lateral\.conv\.(.*)", r"s1_fuse.conv_f2s.\1"),
    (r"conv1_lateral\.bn\.(.*)", r"s1_fuse.bn.\1"),
    (r"layer(\d)_lateral\.conv\.(.*)", r"s{\1}_fuse.conv_f2s.\2"),
    (r"layer(\d)_lateral\.bn\.(.*)", r"s{\1}_fuse.bn.\2"),
    (r"layer(\d)\.(\d+)\.conv([123])\.conv\.(.*)", r"s{\1}.pathway{p}_res\2.branch2.<\3>.\4"),
    (r"layer(\d)\.(\d+)\.conv([123])\.bn\.(.*)", r"s{\1}.pathway{p}_res\2.branch2.<\3>_bn.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.conv\.(.*)", r"s{\1}.pathway{p}_res\2.branch1.\3"),
    (r"layer(\d)\.(\d+)\.downsample\.bn\.(.*)", r"s{\1}.pathway{p}_res\2.branch1_bn.\3"),
    (
        # `g.0` and `phi.0` where max-pooling follows them.
        r"layer(\d)\.(\d+)\.non_local_block\.(theta|phi|g)(?:\.0)?\.conv\.(.*)",
        r"s{\1}.pathway{p}_nonlocal\2.conv_\3.\4",
    ),
    (
        r"layer(\d)\.(\d+)\.non_local_block\.conv_out\.conv\.(.*)",
        r"s{\1}.pathway{p}_nonlocal\2.conv_out.\3",
    ),
    (
        r"layer(\d)\.(\d+)\.non_local_block\.conv_out\.bn\.(.*)",
        r"s{\1}.pathway{p}_nonlocal\2.bn.\3",
    ),
)
_PATHWAYS = {"slow_path.": "0", "fast_path.": "1", "": "0"}
# Its outputs are the fast pathway's features.
_FAST_OUTPUT = "s5.pathway1_res0.branch2.c.weight"
_CLASSIFIER = "head.projection.weight"


def to_pyslowfast(name: str) -> str | None:
    """PySlowFast's name of a tensor, None for what has no counterpart there."""
    if match := re.fullmatch(r"cls_head\.fc_cls\.(weight|bias)", name):
        return f"head.projection.{match[1]}"
    match = re.fullmatch(r"backbone\.(slow_path\.|fast_path\.|)(.*)", name)
    if match is None:
        return None
    ours = renamed(match[2], _BACKBONE)
    return None if ours is None else ours.replace("{p}", _PATHWAYS[match[1]])


def completed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors, by PySlowFast's names, as its networks have them.

    C2D's kernels are those of images, which become kernels over one frame; the last convolution of
    a non-local block has no bias, which is a bias of zero; SlowFast's classifier has the columns of
    the fast pathway's features first (its `slowfast_head.py`), which come last here.
    """
    whole = {n: t[:, :, None] if t.ndim == 4 else t for n, t in tensors.items()}
    for name, tensor in tensors.items():
        if name.endswith(".conv_out.weight"):
            bias = name.replace(".weight", ".bias")
            whole.setdefault(bias, np.zeros(tensor.shape[0], np.float32))
    if _FAST_OUTPUT in whole and _CLASSIFIER in whole:
        fast = whole[_FAST_OUTPUT].shape[0]
        whole[_CLASSIFIER] = np.roll(whole[_CLASSIFIER], -fast, axis=-1)
    return whole
