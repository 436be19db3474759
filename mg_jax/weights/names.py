"""Names of tensors: those of other code bases, translated to PySlowFast's.

Our modules carry PySlowFast's names, for example `s2.pathway0_res0.branch2.a.weight`.
"""

import re
from collections.abc import Iterable

from mg_jax.weights import mmaction
from mg_jax.weights.renaming import renamed

_PYTORCHVIDEO = (
    (r"blocks\.0\.multipathway_blocks\.(\d)\.conv\.(.*)", r"s1.pathway\1_stem.conv.\2"),
    (r"blocks\.0\.multipathway_blocks\.(\d)\.norm\.(.*)", r"s1.pathway\1_stem.bn.\2"),
    (r"blocks\.0\.conv\.(.*)", r"s1.pathway0_stem.conv.\1"),
    (r"blocks\.0\.norm\.(.*)", r"s1.pathway0_stem.bn.\1"),
    (r"blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.(.*)", r"s{\1}_fuse.conv_f2s.\2"),
    (r"blocks\.(\d)\.multipathway_fusion\.norm\.(.*)", r"s{\1}_fuse.bn.\2"),
    (
        r"blocks\.(\d)\.multipathway_blocks\.(\d)\.res_blocks\.(\d+)\.(.*)",
        r"s{\1}.pathway\2_res\3.\4",
    ),
    (r"blocks\.(\d)\.res_blocks\.(\d+)\.(.*)", r"s{\1}.pathway0_res\2.\3"),
    (r"blocks\.\d\.proj\.(.*)", r"head.projection.\1"),
)
_PYTORCHVIDEO_BLOCK = (
    (r"\.branch1_conv\.", ".branch1."),
    (r"\.branch1_norm\.", ".branch1_bn."),
    (r"\.branch2\.conv_([abc])\.", r".branch2.\1."),
    (r"\.branch2\.norm_([abc])\.", r".branch2.\1_bn."),
)

_IMAGENET = (
    (r"conv1\.(.*)", r"s1.pathway0_stem.conv.\1"),
    (r"bn1\.(.*)", r"s1.pathway0_stem.bn.\1"),
    (r"layer(\d)\.(\d+)\.conv([123])\.(.*)", r"s{\1}.pathway0_res\2.branch2.<\3>.\4"),
    (r"layer(\d)\.(\d+)\.bn([123])\.(.*)", r"s{\1}.pathway0_res\2.branch2.<\3>_bn.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.(.*)", r"s{\1}.pathway0_res\2.branch1.\3"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.(.*)", r"s{\1}.pathway0_res\2.branch1_bn.\3"),
)

# The fast pathway's blobs begin with t_. `res2_2_branch2c_bn_subsample` is the fusion after res2.
_CAFFE2 = (
    (r"conv1_(w)", r"s1.pathway0_stem.conv._\1"),
    (r"t_conv1_(w)", r"s1.pathway1_stem.conv._\1"),
    (r"res_conv1_bn_(\w+)", r"s1.pathway0_stem.bn._\1"),
    (r"t_res_conv1_bn_(\w+)", r"s1.pathway1_stem.bn._\1"),
    (r"t_pool1_subsample_bn_(\w+)", r"s1_fuse.bn._\1"),
    (r"t_pool1_subsample_(w)", r"s1_fuse.conv_f2s._\1"),
    (r"t_res(\d)_\d+_branch2c_bn_subsample_bn_(\w+)", r"s\1_fuse.bn._\2"),
    (r"t_res(\d)_\d+_branch2c_bn_subsample_(w)", r"s\1_fuse.conv_f2s._\2"),
    (r"res(\d)_(\d+)_branch1_bn_(\w+)", r"s\1.pathway0_res\2.branch1_bn._\3"),
    (r"res(\d)_(\d+)_branch1_(w)", r"s\1.pathway0_res\2.branch1._\3"),
    (r"res(\d)_(\d+)_branch2([abc])_bn_(\w+)", r"s\1.pathway0_res\2.branch2.\3_bn._\4"),
    (r"res(\d)_(\d+)_branch2([abc])_(w)", r"s\1.pathway0_res\2.branch2.\3._\4"),
    (r"t_res(\d)_(\d+)_branch1_bn_(\w+)", r"s\1.pathway1_res\2.branch1_bn._\3"),
    (r"t_res(\d)_(\d+)_branch1_(w)", r"s\1.pathway1_res\2.branch1._\3"),
    (r"t_res(\d)_(\d+)_branch2([abc])_bn_(\w+)", r"s\1.pathway1_res\2.branch2.\3_bn._\4"),
    (r"t_res(\d)_(\d+)_branch2([abc])_(w)", r"s\1.pathway1_res\2.branch2.\3._\4"),
    (r"nonlocal_conv(\d)_(\d+)_bn_(\w+)", r"s\1.pathway0_nonlocal\2.bn._\3"),
    (r"nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)_(w|b)", r"s\1.pathway0_nonlocal\2.conv_\3._\4"),
    (r"pred_(w|b)", r"head.projection._\1"),
)
_CAFFE2_LEAVES = {
    "_w": "weight",
    "_s": "weight",
    "_b": "bias",
    "_rm": "running_mean",
    # Named after the inverse variance, it holds the variance.
    "_riv": "running_var",
}


_MMACTION_STEMS = ("backbone.conv1.conv.weight", "backbone.slow_path.conv1.conv.weight")


def scheme(names: Iterable[str], own: Iterable[str]) -> str | None:
    """The naming scheme of a file, or None if it is not known.

    It is pyslowfast, pytorchvideo (pytorchvideo_pooled where pooling over time is a block of its
    own after res2, as in I3D and C2D), caffe2, imagenet or mmaction.

    Args:
      names: of the file's tensors.
      own: of the model's tensors, which count as PySlowFast's where the model is not of its kind.
    """
    names = set(names)
    if any(name.startswith("s1.pathway0_stem.") for name in names) or not names.isdisjoint(own):
        return "pyslowfast"
    if any(name.startswith("blocks.0.") for name in names):
        pooled = "blocks.5.res_blocks.0.branch1_conv.weight" in names
        return "pytorchvideo_pooled" if pooled else "pytorchvideo"
    if not names.isdisjoint(_MMACTION_STEMS):
        return "mmaction"
    if {"conv1_w", "res_conv1_bn_s"} <= names:
        return "caffe2"
    if {"conv1.weight", "layer1.0.conv1.weight"} <= names:
        return "imagenet"
    return None


def to_pyslowfast(name: str, source: str) -> str | None:
    """PySlowFast's name of a tensor, None for what has no counterpart there.

    Args:
      name: in the source's naming.
      source: a value of `scheme`.
    """
    if source == "pyslowfast":
        return name
    if source == "pytorchvideo":
        return _pytorchvideo(name)
    if source == "pytorchvideo_pooled":
        return _pytorchvideo(re.sub(r"^blocks\.([3-6])\.", _block_before, name))
    if source == "mmaction":
        return mmaction.to_pyslowfast(name)
    return renamed(name, _IMAGENET) if source == "imagenet" else _caffe2(name)


def _block_before(match: re.Match) -> str:
    return f"blocks.{int(match[1]) - 1}."


def _pytorchvideo(name: str) -> str | None:
    translated = renamed(name, _PYTORCHVIDEO)
    if translated is None:
        return None
    for pattern, replacement in _PYTORCHVIDEO_BLOCK:
        translated = re.sub(pattern, replacement, translated)
    return translated


def _caffe2(name: str) -> str | None:
    translated = renamed(name, _CAFFE2)
    if translated is None:
        return None
    module, leaf = translated.rsplit(".", 1)
    return f"{module}.{_CAFFE2_LEAVES[leaf]}" if leaf in _CAFFE2_LEAVES else None
