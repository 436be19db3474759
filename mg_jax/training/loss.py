"""The loss and the metrics of training."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax


def batch_metrics(
    logits_BK: jax.Array,
    label: jax.Array,
    smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> dict[str, jax.Array]:
    """Means over a batch: `loss`, and `top1` if every video has one label.

    Args:
      logits_BK: float32.
      label: `B` int32 or, of mixed clips, `B K` float32 for softmax cross entropy; `B K` uint8 of 0
        and 1 for sigmoid binary cross entropy, averaged over clips and classes.
      smoothing: share a of a label that is spread evenly over the classes, to (1 - a) y + a / K
        (Szegedy et al., 2016); with sigmoids over yes and no, to (1 - a) y + a / 2.
      class_weights: factors of the classes' terms of the loss; None for 1.
    """
    if label.dtype == jnp.uint8:
        return {"loss": _sigmoid_loss(logits_BK, label, smoothing, class_weights)}
    if label.ndim == 1 and not smoothing and class_weights is None:
        loss = optax.softmax_cross_entropy_with_integer_labels(logits_BK, label).mean()
        return {"loss": loss, "top1": jnp.mean(jnp.argmax(logits_BK, -1) == label)}
    share_BK = label if label.ndim == 2 else jax.nn.one_hot(label, logits_BK.shape[-1])
    target_BK = optax.smooth_labels(share_BK, smoothing)
    if class_weights is not None:
        target_BK *= jnp.array(class_weights, jnp.float32)
    loss = optax.softmax_cross_entropy(logits_BK, target_BK).mean()
    # Of mixed clips the class with the larger share counts.
    return {"loss": loss, "top1": jnp.mean(jnp.argmax(logits_BK, -1) == jnp.argmax(share_BK, -1))}


def _sigmoid_loss(
    logits_BK: jax.Array,
    label_BK: jax.Array,
    smoothing: float,
    class_weights: Sequence[float] | None,
) -> jax.Array:
    if smoothing:
        label_BK = (1 - smoothing) * label_BK + smoothing / 2
    loss_BK = optax.sigmoid_binary_cross_entropy(logits_BK, label_BK)
    if class_weights is not None:
        loss_BK *= jnp.array(class_weights, jnp.float32)
    return loss_BK.mean()
