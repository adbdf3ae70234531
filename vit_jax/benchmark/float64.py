"""Attention and its gradients in float64 on the host: what the kernels are compared with."""

from typing import Any, NamedTuple

import numpy as np


class Attention(NamedTuple):
    """The result, b n h c, and the gradients of query, key and value, of the same shape."""

    result: np.ndarray
    gradients: tuple[np.ndarray, np.ndarray, np.ndarray]


def attention(query: Any, key: Any, value: Any, cotangent: Any) -> Attention:
    """Returns softmax(query · key / √c) · value of arrays b n h c, and its gradients.

    The gradients are those of the sum of the result times `cotangent`, by hand: with weights W and
    G the gradient of W, that of the logits is W (G - sum(W G)) (arXiv:2205.14135, appendix B.2).
    """
    q, k, v, g = (_heads_first(x) for x in (query, key, value, cotangent))
    scale = q.shape[-1] ** -0.5
    logits = scale * q @ k.swapaxes(-1, -2)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    of_weights = g @ v.swapaxes(-1, -2)
    of_logits = weights * (of_weights - (weights * of_weights).sum(-1, keepdims=True))
    gradients = scale * of_logits @ k, scale * of_logits.swapaxes(-1, -2) @ q
    of_value = weights.swapaxes(-1, -2) @ g
    to_tokens = [x.swapaxes(1, 2) for x in (weights @ v, *gradients, of_value)]
    return Attention(to_tokens[0], (to_tokens[1], to_tokens[2], to_tokens[3]))


def error(found: Any, exact: np.ndarray) -> float:
    """Returns the largest difference of the first images, over the largest value there is."""
    difference = np.asarray(found[: len(exact)], np.float64) - exact
    return float(np.abs(difference).max() / np.abs(exact).max())


def _heads_first(x: Any) -> np.ndarray:
    """b n h c → b h n c, of the values as they are."""
    return np.asarray(x, np.float64).swapaxes(1, 2)
