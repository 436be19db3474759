"""The exponential moving average of the weights (Polyak and Juditsky, 1992)."""

import jax
import jax.numpy as jnp
import optax

from mg_jax.runtime.state import AveragedState, TrainState


def with_average(config, state: TrainState, clips: int) -> TrainState:
    """The state after an iteration, with its average moved on by the new parameters, if it has one.

    With d = optimizer.average, for an iteration of b clips of a recipe that is stated for B,

        average <- c average + (1 - c) theta,   c = min(d^(b / B), (1 + i) / (10 + i)),

    so that coarse grids, whose iterations have more clips, move it further. The second term, of
    iteration i, forgets the initial weights soon (as TensorFlow's ExponentialMovingAverage).

    Args:
      config: of the run.
      state: after the iteration.
      clips: b, of the iteration.
    """
    if not config.optimizer.average:
        return state
    decay = config.optimizer.average ** (clips / config.schedule.batch)
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, step / (9 + step))
    average = optax.incremental_update(state.params, state.average, 1 - decay)
    return state.replace(average=average)


def to_evaluate(state: TrainState) -> TrainState:
    """The state with the average, if it has one, in the place of its parameters."""
    return state.replace(params=state.average) if isinstance(state, AveragedState) else state


def averaged(state: TrainState) -> AveragedState:
    """A state that averages its parameters from here on."""
    fields = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
    return AveragedState(**fields, average=jax.tree.map(jnp.copy, state.params))
