"""Published networks by name, as settings of the config. Plain data.

Architectures, clips and normalisation are those of

 - PySlowFast's model zoo (`configs/Kinetics`, and `c2/` there) and PyTorchVideo's, which agree;
 - mmaction2 (`configs/recognition`), under names that begin with mmaction.

F x S in a name are the frames and the stride of the slow, or only, pathway. Every name gives every
setting of the network, so that it replaces a recipe's whatever that is; classes, dropout and
precision stay the recipe's.
"""

from typing import Any

_PAPER = {
    "model.name": "i3d",
    "model.depth": 50,
    "model.width": 64,
    "model.alpha": 4,
    "model.beta": 1 / 8,
    "model.stem_frames": 1,
    "model.stage_frames": ((1,), (1,), (3,), (3,)),
    "model.fast_stage_frames": ((3,), (3,), (3,), (3,)),
    "model.fusion_frames": 7,
    "model.fusion_norm": True,
    "model.slow_frames": "spread",
    "model.stem_stride": 1,
    "model.pool_frames": 1,
    "model.pad_stem_pool": True,
    "model.non_local.positions": ((), (), (), ()),
    "model.non_local.instantiation": "dot_product",
    "model.non_local.pool": (1, 2, 2),
    "model.non_local.pool_first": True,
    "data.mean": (0.45, 0.45, 0.45),
    "data.std": (0.225, 0.225, 0.225),
}
# Where training differs on purpose, such as more frames after pre-training.
_CLIP = ("frames", "data.stride")


def _network(base: dict[str, Any], frames: int, stride: int, **model: Any) -> dict[str, Any]:
    """Settings by name; those of the section `model` as `name` or `non_local__name`."""
    changes = {f"model.{name.replace('__', '.')}": value for name, value in model.items()}
    return {**base, "frames": frames, "data.stride": stride, **changes}


_I3D = {
    "stem_frames": 5,
    "stage_frames": ((3,), (3, 1), (3, 1), (1, 3)),
    "pool_frames": 2,
}
_C2D = {"stage_frames": ((1,), (1,), (1,), (1,))}
_I3D_NL = {"non_local__positions": ((), (1, 3), (1, 3, 5), ())}
# Kernels over time in as many blocks of res4 as a ResNet-50 has.
_SIX_OF_23 = (3,) * 6 + (1,) * 17
_R101_50_50 = {
    "depth": 101,
    "stage_frames": ((1,), (1,), _SIX_OF_23, (3,)),
    "fast_stage_frames": ((3,), (3,), _SIX_OF_23, (3,)),
}

_SLOWFAST = {**_PAPER, "model.name": "slowfast"}
_PYSLOWFAST = {
    "slowfast_4x16_r50": _network(_SLOWFAST, 32, 2, alpha=8, fusion_frames=5),
    "slowfast_8x8_r50": _network(_SLOWFAST, 32, 2),
    "slowfast_8x8_r101": _network(_SLOWFAST, 32, 2, depth=101, fusion_frames=5),
    "slowfast_16x8_r101_50_50": _network(_SLOWFAST, 64, 2, fusion_frames=5, **_R101_50_50),
    "slow_4x16_r50": _network(_PAPER, 4, 16),
    "slow_8x8_r50": _network(_PAPER, 8, 8),
    "i3d_8x8_r50": _network(_PAPER, 8, 8, **_I3D),
    "i3d_nln_8x8_r50": _network(
        _PAPER, 8, 8, **_I3D, **_I3D_NL, non_local__instantiation="softmax"
    ),
    "c2d_8x8_r50": _network(_PAPER, 8, 8, **_C2D, pool_frames=2),
    "c2d_nopool_8x8_r50": _network(_PAPER, 8, 8, **_C2D),
}

# (x - 123.675) / 58.395 and so on, of x in 0 ... 255.
_IMAGENET = {"data.mean": (0.485, 0.456, 0.406), "data.std": (0.229, 0.224, 0.225)}
_MM = {**_PAPER, **_IMAGENET, "model.non_local.pool_first": False}
_MM_SLOWFAST = {
    **_MM,
    "model.name": "slowfast",
    "model.fusion_norm": False,
    "model.slow_frames": "every",
}
# Its stem has stride 2, and the pooling after it takes every other frame: stride 4 in one.
_MM_I3D = {**_I3D, "stem_stride": 4}
_MM_SLOW_NL = {
    "non_local__positions": ((), (0, 2), (0, 2, 4), ()),
    "non_local__instantiation": "softmax",
}
_MM_C2D = {**_C2D, "pool_frames": 2, "pad_stem_pool": False}
_MMACTION = {
    "mmaction_slowfast_4x16_r50": _network(_MM_SLOWFAST, 32, 2, alpha=8, fusion_frames=5),
    "mmaction_slowfast_8x8_r50": _network(_MM_SLOWFAST, 32, 2),
    "mmaction_slowfast_8x8_r101": _network(_MM_SLOWFAST, 32, 2, depth=101),
    "mmaction_slowonly_4x16_r50": _network(_MM, 4, 16),
    "mmaction_slowonly_8x8_r50": _network(_MM, 8, 8),
    "mmaction_slowonly_8x8_r101": _network(_MM, 8, 8, depth=101),
    "mmaction_slowonly_nl_4x16_r50": _network(_MM, 4, 16, **_MM_SLOW_NL),
    "mmaction_slowonly_nl_8x8_r50": _network(_MM, 8, 8, **_MM_SLOW_NL),
    "mmaction_i3d_32x2_r50": _network(_MM, 32, 2, **_MM_I3D),
    "mmaction_i3d_heavy_32x2_r50": _network(
        _MM, 32, 2, stem_frames=5, stage_frames=((3,), (3,), (3,), (3,)), pool_frames=2
    ),
    "mmaction_i3d_nl_dot_product_32x2_r50": _network(_MM, 32, 2, **_MM_I3D, **_I3D_NL),
    "mmaction_i3d_nl_embedded_gaussian_32x2_r50": _network(
        _MM, 32, 2, **_MM_I3D, **_I3D_NL, non_local__instantiation="unscaled_softmax"
    ),
    "mmaction_c2d_8x8_r50": _network(_MM, 8, 8, **_MM_C2D),
    "mmaction_c2d_16x4_r50": _network(_MM, 16, 4, **_MM_C2D),
    "mmaction_c2d_nopool_8x8_r50": _network(_MM, 8, 8, **_C2D),
    "mmaction_c2d_nopool_8x8_r101": _network(_MM, 8, 8, **_C2D, depth=101),
}

# Settings, such as `model.depth`, by the name of a network.
PUBLISHED: dict[str, dict[str, Any]] = {**_PYSLOWFAST, **_MMACTION}


def names_of(scheme: str) -> tuple[str, ...]:
    """The networks that files of a naming scheme (`weights.names.scheme`) can hold."""
    return tuple(_MMACTION if scheme == "mmaction" else _PYSLOWFAST)


def differences(config, name: str) -> dict[str, tuple[Any, Any]]:
    """Settings in which a config's network is not the named one: that one's value, the config's.

    Width, frames and stride are not compared: a network may be trained on other clips.
    """
    wanted = {
        setting: value
        for setting, value in PUBLISHED[name].items()
        if setting not in (*_CLIP, "model.width")
    }
    if wanted["model.name"] != "slowfast":
        two_pathways = ("alpha", "beta", "fast_stage_frames", "fusion_frames", "fusion_norm")
        for setting in (*two_pathways, "slow_frames"):
            del wanted[f"model.{setting}"]
    if not any(wanted["model.non_local.positions"]):
        for setting in ("instantiation", "pool", "pool_first"):
            del wanted[f"model.non_local.{setting}"]
    found = {setting: _value(config, setting) for setting in wanted}
    return {s: (value, found[s]) for s, value in wanted.items() if found[s] != value}


def _value(config, setting: str) -> Any:
    for key in setting.split("."):
        config = config[key]
    return _as_tuples(config)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value
