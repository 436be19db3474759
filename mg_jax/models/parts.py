"""What networks are built from, the same for every architecture."""

import dataclasses
from typing import Any

# A module's class, or a function that makes a module of it.
ModuleDef = Any


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a network's `create` is given beside its settings.

    Attributes:
      conv: convolution, called with (features, kernel, strides).
      norm: normalisation.
      remat: keep only the inputs of blocks for the backward pass, which computes the rest again.
      train: training or inference.
      axis_name: the mapped axis over which the batch is split, or None.
    """

    conv: ModuleDef
    norm: ModuleDef
    remat: bool
    train: bool
    axis_name: str | None
