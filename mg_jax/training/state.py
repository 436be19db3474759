"""The initial state of training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mg_jax.architectures import frame_unit
from mg_jax.models import create_model
from mg_jax.runtime import parallel, xla_options
from mg_jax.runtime.kept_programs import KeptPrograms
from mg_jax.runtime.state import TrainState
from mg_jax.training.arguments import program_seed
from mg_jax.training.average import averaged
from mg_jax.training.optimizer import create_optimizer
from mg_jax.training.programs import settings_in_programs


def create_state(config, mesh: Mesh) -> TrainState:
    """A newly initialised state, replicated over the mesh.

    Its program is kept like those of training, one for all seeds.
    """
    sharding = jax.sharding.NamedSharding(mesh, parallel.REPLICATED)
    made_from = f"{settings_in_programs(config)}\n{mesh.axis_names}"
    options = xla_options.for_once(parallel.platform(mesh))
    kept = KeptPrograms(made_from, list(mesh.devices.flat), options)
    seed = program_seed(config.seed)
    init = jax.jit(partial(_init_state, config), out_shardings=sharding)
    program, _ = kept.lower("initial state", partial(init.lower, seed))()
    return program(seed)


def draw_variables(config) -> dict[str, Any]:
    """Newly initialised variables of the config's network, in host memory."""
    options = xla_options.for_once(jax.default_backend())
    draw = jax.jit(lambda: init_variables(config), compiler_options=options)
    return jax.device_get(draw())


def state_shapes(config) -> TrainState:
    """The shapes and dtypes of a state."""
    return jax.eval_shape(lambda: _init_state(config, config.seed))


def _init_state(config, seed: int | jax.Array) -> TrainState:
    variables = init_variables(config, seed)
    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = create_optimizer(config.optimizer).init(params)
    state = TrainState(jnp.int32(0), params, batch_stats, opt_state)
    return averaged(state) if config.optimizer.average else state


def init_variables(config, seed: int | jax.Array | None = None) -> dict[str, Any]:
    """Newly initialised `params` and `batch_stats`, drawn from a seed, by default the config's."""
    seed = config.seed if seed is None else seed
    model = create_model(config.model, train=False)
    # Shapes of variables do not depend on the grid, so the input may be small.
    clips_BTHWC = jnp.zeros((1, 2 * frame_unit(config.model), 32, 32, 3))
    # A network without batch norm has no statistics.
    return {"batch_stats": {}, **model.init(jax.random.key(seed), clips_BTHWC)}
