"""The initial state of training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mg_jax.architectures import frame_unit
from mg_jax.models import create_model
from mg_jax.runtime import parallel, xla_options
from mg_jax.runtime.state import TrainState
from mg_jax.training.average import averaged
from mg_jax.training.optimizer import create_optimizer


def create_state(config, mesh: Mesh) -> TrainState:
    """A newly initialised state, replicated over the mesh."""
    sharding = jax.sharding.NamedSharding(mesh, parallel.REPLICATED)
    init = partial(_init_state, config)
    return jax.jit(init, out_shardings=sharding, compiler_options=xla_options.ONCE)()


def state_shapes(config) -> TrainState:
    """The shapes and dtypes of a state."""
    return jax.eval_shape(partial(_init_state, config))


def _init_state(config) -> TrainState:
    variables = init_variables(config)
    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = create_optimizer(config.optimizer).init(params)
    state = TrainState(jnp.int32(0), params, batch_stats, opt_state)
    return averaged(state) if config.optimizer.average else state


def init_variables(config) -> dict[str, Any]:
    """Newly initialised `params` and `batch_stats`, drawn from the config's seed."""
    model = create_model(config.model, train=False)
    # Shapes of variables do not depend on the grid, so the input may be small.
    clips_BTHWC = jnp.zeros((1, 2 * frame_unit(config.model), 32, 32, 3))
    # A network without batch norm has no statistics.
    return {"batch_stats": {}, **model.init(jax.random.key(config.seed), clips_BTHWC)}
