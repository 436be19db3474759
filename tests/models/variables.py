"""Variables of single modules."""

import jax
import jax.numpy as jnp

from mg_jax.runtime import xla_options


def initialised(module, inputs=None):
    """Newly initialised variables of a network, or of a part of one that takes some inputs."""
    init = jax.jit(module.init, compiler_options=xla_options.for_once("cpu"))
    return init(jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3)) if inputs is None else inputs)
