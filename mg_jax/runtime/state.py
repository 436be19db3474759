"""What the devices keep from one iteration of training to the next."""

from typing import Any

import flax
import jax


@flax.struct.dataclass
class TrainState:
    """All that training carries from one iteration to the next; the same for every grid.

    Attributes:
      step: int32, iterations done.
      params: float32.
      batch_stats: running means and variances, float32.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


@flax.struct.dataclass
class AveragedState(TrainState):
    """A state with a moving average of the parameters; a class of its own, so that checkpoints of
    runs without one stay as they are.

    Attributes:
      average: of params, float32.
    """

    average: Any
