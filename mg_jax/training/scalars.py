"""The numbers that the step takes beside its batch: what runs of one program may differ in."""

import jax
import numpy as np
from jax.sharding import Mesh

from mg_jax.runtime import parallel


def step_scalars(config, learning_rate: float, mesh: Mesh) -> dict[str, jax.Array]:
    """What an iteration takes beside state and batch, on the devices: learning_rate and seed.

    Args:
      config: of the run.
      learning_rate: of the iteration.
      mesh: the devices.
    """
    scalars = {"learning_rate": np.float32(learning_rate), "seed": program_seed(config.seed)}
    return parallel.replicate(scalars, mesh)


def scalar_shapes() -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of `step_scalars`."""
    dtypes = {"learning_rate": np.float32, "seed": np.int32}
    return {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in dtypes.items()}


def program_seed(seed: int) -> np.int32:
    """The seed as `jax.random.key` reduces it, for programs that take it as an argument."""
    return np.int64(seed).astype(np.int32)
