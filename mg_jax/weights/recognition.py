"""Which network tensors are of, as far as their shapes show."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mg_jax.architectures import BLOCKS
from mg_jax.published import PUBLISHED, differences, names_of


def visible_settings(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The settings of a network of ours that names and shapes of its tensors show.

    Args:
      tensors: by PySlowFast's names, with `shape`.

    Returns:
      Values by name, such as `model.depth`; nothing of a setting whose tensors are missing.
    """
    frames = _kernel_frames(tensors)
    if "s1.pathway0_stem.conv" not in frames:
        return {}
    two = "s1.pathway1_stem.conv" in frames
    settings: dict[str, Any] = {
        "model.name": "slowfast" if two else "i3d",
        "model.stem_frames": frames["s1.pathway0_stem.conv"],
        "model.stage_frames": _stage_frames(frames, 0),
        "model.non_local.positions": _non_local(tensors),
    }
    blocks = tuple(len(stage) for stage in settings["model.stage_frames"])
    settings["model.depth"] = {b: depth for depth, b in BLOCKS.items()}.get(blocks)
    if two:
        settings["model.fast_stage_frames"] = _stage_frames(frames, 1)
        settings["model.fusion_frames"] = frames.get("s1_fuse.conv_f2s")
        settings["model.fusion_norm"] = "s1_fuse.bn.weight" in tensors
    return {name: value for name, value in settings.items() if value is not None}


def published_as(visible: dict[str, Any], scheme: str) -> tuple[str, ...]:
    """Published networks whose files have the visible settings.

    Args:
      visible: of `visible_settings`.
      scheme: of the file's names.
    """
    if not visible:
        return ()
    return tuple(
        name
        for name in names_of(scheme)
        if all(_written_out(PUBLISHED[name], s) == value for s, value in visible.items())
    )


def describe_differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The settings that differ, in words; empty where none does."""
    return "; ".join(
        f"{name} is {_brief(value)} there and {_brief(ours[name])} here"
        for name, value in theirs.items()
        if name in ours and ours[name] != value
    )


def advice(names: Iterable[str]) -> str:
    """How to set up a network like one of those."""
    names = tuple(names)
    if not names:
        return ""
    some = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f" Published with these shapes: {some}; --config=FILE:NAME sets up one of them."


def remark(config, visible: dict[str, Any], scheme: str) -> str:
    """What a config has otherwise than all published networks of these shapes, which it has too.

    Args:
      config: of the model.
      visible: of `visible_settings`; however they are written down, the config has the same.
      scheme: of the file's names.
    """
    found = {
        name: {s: pair for s, pair in differences(config, name).items() if s not in visible}
        for name in published_as(visible, scheme)
    }
    if not found or not all(found.values()):
        return ""
    name = min(found, key=lambda name: len(found[name]))
    unlike = "; ".join(f"{s} is {a} there and {b} here" for s, (a, b) in found[name].items())
    return f"no tensor shows what {name} has otherwise: {unlike}; --config=FILE:{name} sets it up"


def _kernel_frames(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Kernel sizes over time of the convolutions, by name."""
    return {
        name.removesuffix(".weight"): tensor.shape[2]
        for name, tensor in tensors.items()
        if name.endswith(".weight") and len(tensor.shape) == 5
    }


def _stage_frames(frames: dict[str, int], pathway: int) -> tuple[tuple[int, ...], ...]:
    """Kernel sizes over time of every block of res2 ... res5."""
    stages: list[dict[int, int]] = [{}, {}, {}, {}]
    for name, size in frames.items():
        if match := re.fullmatch(rf"s([2-5])\.pathway{pathway}_res(\d+)\.branch2\.a", name):
            stages[int(match[1]) - 2][int(match[2])] = size
    return tuple(tuple(size for _, size in sorted(stage.items())) for stage in stages)


def _non_local(names: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    stages: list[set[int]] = [set(), set(), set(), set()]
    for name in names:
        if match := re.match(r"s([2-5])\.pathway0_nonlocal(\d+)\.", name):
            stages[int(match[1]) - 2].add(int(match[2]))
    return tuple(tuple(sorted(stage)) for stage in stages)


def _written_out(settings: dict[str, Any], name: str) -> Any:
    """A setting, kernel sizes over time for each block."""
    value = settings[name]
    if not name.endswith("stage_frames"):
        return value
    blocks = BLOCKS[settings["model.depth"]]
    return tuple(
        tuple(sizes[j % len(sizes)] for j in range(count))
        for sizes, count in zip(value, blocks, strict=True)
    )


def _brief(value: Any) -> str:
    """A value with the kernel sizes of a stage as the shortest run that repeats to them."""
    if isinstance(value, tuple) and all(isinstance(stage, tuple) and stage for stage in value):
        value = tuple(_shortest(stage) for stage in value)
    return str(value).replace(" ", "")


def _shortest(sizes: tuple[int, ...]) -> tuple[int, ...]:
    for n in range(1, len(sizes)):
        if all(size == sizes[j % n] for j, size in enumerate(sizes)):
            return sizes[:n]
    return sizes
