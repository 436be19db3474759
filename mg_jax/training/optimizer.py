"""The optimizers: SGD as the paper trains, and AdamW; weight decay except on batch norm."""

from collections.abc import Iterator
from typing import Any

import jax
import optax

from mg_jax.training.network_stages import HEAD, map_stages
from mg_jax.training_settings import STAGES


def create_optimizer(config) -> optax.GradientTransformation:
    """An optimizer whose learning rate `with_learning_rate` sets before every update.

    With g the gradient, w the weight decay, m the momentum and b, c the betas, SGD does as in the
    authors' PyTorch code

        v <- m v + g + w theta,   theta <- theta - lr (g + w theta + m v)

    and AdamW (Loshchilov and Hutter, 2019)

        u <- b u + (1 - b) g,   s <- c s + (1 - c) g^2,
        theta <- theta - lr (u / (1 - b^t) / (sqrt(s / (1 - c^t)) + 1e-8) + w theta).

    Before that the gradient is scaled down to the norm clip_norm where it is longer; then lr is
    multiplied by layer_decay for each stage between theta and the classifier.

    Args:
      config: the `optimizer` section. The formula of SGD is that with nesterov.
    """

    @optax.inject_hyperparams
    def optimizer(learning_rate):
        return optax.chain(*_transforms(config), optax.scale_by_learning_rate(learning_rate))

    return optimizer(learning_rate=0.0)


def _transforms(config) -> Iterator[optax.GradientTransformation]:
    decay = optax.add_decayed_weights(
        config.weight_decay, mask=lambda params: decayed(params, config.freeze)
    )
    if config.clip_norm:
        yield optax.clip_by_global_norm(config.clip_norm)
    if config.name == "adamw":
        yield optax.scale_by_adam(*config.betas)
        yield decay
    else:
        yield decay
        yield optax.trace(decay=config.momentum, nesterov=config.nesterov)
    if config.layer_decay != 1:
        yield optax.stateless(
            lambda updates, _: map_stages(
                lambda update, stage: update * config.layer_decay ** (HEAD - stage), updates
            )
        )


def with_learning_rate(opt_state: Any, learning_rate: jax.Array) -> Any:
    """The optimizer's state with another learning rate, a scalar."""
    rate = learning_rate.astype(opt_state.hyperparams["learning_rate"].dtype)
    return opt_state._replace(hyperparams={**opt_state.hyperparams, "learning_rate": rate})


def decayed(params: Any, freeze: str = "") -> Any:
    """A tree of bools: True for the parameters with weight decay, all but those of batch norm.

    Args:
      params: by the names of a network's modules.
      freeze: the last stage that is frozen and has no decay either, one of STAGES; '' for none.
    """

    def is_decayed(path, _) -> bool:
        return not any(module.key.endswith("bn") for module in path[-2:-1])

    mask = jax.tree_util.tree_map_with_path(is_decayed, params)
    if freeze:
        most = STAGES.index(freeze)
        mask = map_stages(lambda decays, stage: decays and stage > most, mask)
    return mask
