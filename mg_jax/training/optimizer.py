"""SGD as the paper trains: Nesterov momentum, weight decay except on batch norm."""

from typing import Any

import jax
import optax


def create_optimizer(config) -> optax.GradientTransformation:
    """SGD whose learning rate `with_learning_rate` sets before every update.

    With g the gradient, w the weight decay and m the momentum, as in the authors' PyTorch code:

        v <- m v + g + w theta,   theta <- theta - lr (g + w theta + m v)

    Args:
      config: the `optimizer` section: momentum, nesterov, weight_decay. The formula is that with
        nesterov.
    """

    @optax.inject_hyperparams
    def sgd(learning_rate):
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=decayed),
            optax.trace(decay=config.momentum, nesterov=config.nesterov),
            optax.scale_by_learning_rate(learning_rate),
        )

    return sgd(learning_rate=0.0)


def with_learning_rate(opt_state: Any, learning_rate: jax.Array) -> Any:
    """The optimizer's state with another learning rate, a scalar."""
    rate = learning_rate.astype(opt_state.hyperparams["learning_rate"].dtype)
    return opt_state._replace(hyperparams={**opt_state.hyperparams, "learning_rate": rate})


def decayed(params: Any) -> Any:
    """A tree of bools: True for the parameters with weight decay, all but those of batch norm."""

    def is_decayed(path, _) -> bool:
        return not any(module.key.endswith("bn") for module in path[-2:-1])

    return jax.tree_util.tree_map_with_path(is_decayed, params)
