"""The loss, and what became of each example, computed on the device."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped


def targets(
    labels: Int[Array, "b"], num_classes: int, smoothing: float = 0.0
) -> Float[Array, "b k"]:
    """Returns one-hot rows, of which `smoothing` is spread evenly over all classes.

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.
    """
    return optax.smooth_labels(jax.nn.one_hot(labels, num_classes), smoothing)


def cross_entropy(logits: Float[Array, "b k"], targets: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Returns the softmax cross-entropy of each example, in nats and float32."""
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def binary_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, "b"]:
    """Returns the mean over the classes of the sigmoid cross-entropy, in nats and float32.

    As DeiT III trains (arXiv:2204.07118, section 3): each class is a question of its own, so that
    the two labels of a mixed image can both be right.
    """
    return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).mean(-1)


LOSSES = {"softmax": cross_entropy, "sigmoid": binary_cross_entropy}


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
        "loss": cross_entropy(logits, targets(labels, logits.shape[-1])),
        "top5": (top == labels[:, None]).any(-1),
    }
