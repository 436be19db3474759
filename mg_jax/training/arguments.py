"""What the step takes beside state and batch: numbers that runs of one program may differ in."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh

from mg_jax.runtime import parallel


def step_arguments(config, learning_rate: float, mesh: Mesh) -> dict[str, jax.Array]:
    """The learning_rate of an iteration, float32, and the seed, int32, on the devices.

    Args:
      config: of the run.
      learning_rate: of the iteration.
      mesh: the devices.
    """
    rate = parallel.replicate(np.float32(learning_rate), mesh)
    return {"learning_rate": rate, "seed": _seed_on(mesh, config.seed)}


def argument_shapes() -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of `step_arguments`."""
    dtypes = {"learning_rate": np.float32, "seed": np.int32}
    return {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in dtypes.items()}


def program_seed(seed: int) -> np.int32:
    """The seed as `jax.random.key` reduces it, for programs that take it as an argument."""
    return np.int64(seed).astype(np.int32)


@functools.lru_cache(1)  # the same in every iteration
def _seed_on(mesh: Mesh, seed: int) -> jax.Array:
    return parallel.replicate(program_seed(seed), mesh)
