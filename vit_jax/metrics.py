"""Losses and scores, as sums over examples that add up over batches and processes."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


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


def scores(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], mask: Float[Array, "b"]
) -> dict[str, Float[Array, ""]]:
    """Returns sums over the examples with mask 1: count, loss, correct, correct in the top five."""
    top = jax.lax.top_k(logits, min(5, logits.shape[-1]))[1]
    hits = top == labels[:, None]
    loss = cross_entropy(logits, targets(labels, logits.shape[-1]))
    return {
        "count": mask.sum(),
        "loss": (loss * mask).sum(),
        "accuracy": (hits[:, 0] * mask).sum(),
        "top5_accuracy": (hits.any(-1) * mask).sum(),
    }


def averages(sums: dict[str, float]) -> dict[str, float]:
    """Returns the sums of `scores` divided by their count."""
    return {name: total / sums["count"] for name, total in sums.items() if name != "count"}
