"""Our variables as PySlowFast's tensors and back: names joined by dots, axes in PyTorch's order."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

_STATISTICS = {"mean": "running_mean", "var": "running_var"}


def to_tensors(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors by PySlowFast's names.

    Args:
      variables: `params` and `batch_stats`.
    """
    tensors = {}
    for collection in ("params", "batch_stats"):
        for (*path, leaf), value in flatten_dict(variables[collection]).items():
            name, value = _to_leaf(leaf, np.asarray(value))
            tensors[".".join([*path, name])] = value
    return tensors


def to_variables(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """`params` and `batch_stats` from tensors by PySlowFast's names."""
    params, batch_stats = {}, {}
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        if leaf in _STATISTICS.values():
            batch_stats[*path, leaf.removeprefix("running_")] = value
        elif leaf != "weight":
            params[*path, leaf] = value
        elif value.ndim > 1:
            params[*path, "kernel"] = np.moveaxis(value, (0, 1), (-1, -2))
        else:
            params[*path, "scale"] = value
    return {"params": unflatten_dict(params), "batch_stats": unflatten_dict(batch_stats)}


def _to_leaf(leaf: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    if leaf in _STATISTICS:
        return _STATISTICS[leaf], value
    if leaf == "kernel":  # input and output channels last; PyTorch has output and input first
        return "weight", np.moveaxis(value, (-1, -2), (0, 1))
    return ("weight" if leaf == "scale" else leaf), value
