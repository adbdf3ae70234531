"""The loss, and what became of each example, computed on the device."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped


def cross_entropy(logits: Float[Array, "b k"], targets: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Returns the softmax cross-entropy of each example, in nats and float32."""
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def binary_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, "b"]:
    """Returns the mean over the classes of the sigmoid cross-entropy, in nats and float32."""
    return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).mean(-1)


def training_loss(
    kind: str, logits: Float[Array, "b k"], shares: Float[Array, "b k"], smoothing: float = 0.0
) -> Float[Array, "b"]:
    """Returns what training lowers for each example, in nats and float32.

    Args:
      kind: "softmax", the cross-entropy; or "sigmoid", a question of its own for each class, as
        DeiT III trains (arXiv:2204.07118, section 3). There, as in its code, both labels of a
        mixed image are right as a whole, however small their share.
      logits: of the model.
      shares: of each class in the image; they add to 1.
      smoothing: share of the target that is spread evenly over all classes (Szegedy et al.,
        "Rethinking the Inception Architecture for Computer Vision", 2016, section 7).
    """
    if kind == "sigmoid":
        right = (shares > 0).astype(jnp.float32)
        return binary_cross_entropy(logits, optax.smooth_labels(right, smoothing))
    return cross_entropy(logits, optax.smooth_labels(shares, smoothing))


def outcomes(logits: Float[Array, "b k"], labels: Int[Array, "b"]) -> dict[str, Shaped[Array, "b"]]:
    """Returns what became of each example, of which `vit_jax.records.scores` makes all scores.

    `predicted` is the most probable class, the first of equals, and `confidence` its probability;
    `loss` is in nats, and `top5` says whether the label is among the five most probable.
    """
    top = jax.lax.top_k(logits, min(5, logits.shape[-1]))[1]
    return {
        "label": labels,
        "predicted": logits.argmax(-1),
        "confidence": jax.nn.softmax(logits.astype(jnp.float32), axis=-1).max(-1),
        "loss": cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1])),
        "top5": (top == labels[:, None]).any(-1),
    }
