"""The loss and the metrics of training."""

import jax
import jax.numpy as jnp
import optax


def batch_metrics(logits_BK: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Means over a batch: `loss`, and `top1` if every video has one label.

    Args:
      logits_BK: float32.
      label: `B` int32 for softmax cross entropy, or `B K` of 0 and 1 for sigmoid binary cross
        entropy, averaged over clips and classes.
    """
    if label.ndim == 2:
        return {"loss": optax.sigmoid_binary_cross_entropy(logits_BK, label).mean()}
    loss = optax.softmax_cross_entropy_with_integer_labels(logits_BK, label).mean()
    return {"loss": loss, "top1": jnp.mean(jnp.argmax(logits_BK, -1) == label)}
