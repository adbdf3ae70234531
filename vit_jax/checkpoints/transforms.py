"""How an array of another codebase becomes one, or several, of ours, and back, bit for bit."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A pair of functions, each the other's inverse; neither computes, so no bit is lost.

    Attributes:
      decode: their array -> ours, in the order of the row's names; ValueError for a shape that it
        cannot take.
      encode: ours -> their array.
    """

    decode: Callable[[np.ndarray], Arrays]
    encode: Callable[[Arrays], np.ndarray]


def _single(
    decode: Callable[[np.ndarray], np.ndarray], encode: Callable[[np.ndarray], np.ndarray]
) -> Transform:
    return Transform(lambda array: [decode(array)], lambda arrays: encode(arrays[0]))


def permuted(*axes: int) -> Transform:
    """Their axes in the order that makes them ours."""
    back = [axes.index(axis) for axis in range(len(axes))]
    return _single(lambda x: x.transpose(axes), lambda x: x.transpose(back))


def heads_in(num_heads: int) -> Transform:
    """Query, key or value: theirs ((h c), d), ours (d, h, c)."""

    def decode(x: np.ndarray) -> np.ndarray:
        return x.reshape(num_heads, -1, x.shape[-1]).transpose(2, 0, 1)

    return _single(decode, lambda x: x.transpose(1, 2, 0).reshape(-1, x.shape[0]))


def heads_bias(num_heads: int) -> Transform:
    """Bias of query, key or value: theirs (h c), ours (h, c)."""
    return _single(lambda x: x.reshape(num_heads, -1), lambda x: x.reshape(-1))


def heads_out(num_heads: int) -> Transform:
    """The projection after attention: theirs (d, (h c)), ours (h, c, d)."""

    def decode(x: np.ndarray) -> np.ndarray:
        return x.reshape(x.shape[0], num_heads, -1).transpose(1, 2, 0)

    return _single(decode, lambda x: x.transpose(2, 0, 1).reshape(x.shape[-1], -1))


def fused(part: Transform, count: int) -> Transform:
    """One array of theirs holds `count` of ours behind each other along its first axis."""
    return Transform(
        lambda x: [part.decode(piece)[0] for piece in np.split(x, count)],
        lambda arrays: np.concatenate([part.encode([array]) for array in arrays]),
    )


def stacked(part: Transform) -> Transform:
    """One array of theirs holds the same parameter of every layer, along a new first axis."""
    return Transform(
        lambda x: [part.decode(layer)[0] for layer in x],
        lambda arrays: np.stack([part.encode([array]) for array in arrays]),
    )


SAME = _single(lambda x: x, lambda x: x)
LINEAR = permuted(1, 0)  # theirs (out, in), ours (in, out)
CONV = permuted(2, 3, 1, 0)  # theirs (out, in, h, w), ours (h, w, in, out)


def _without_ones(x: np.ndarray) -> np.ndarray:
    if x.shape[:-1] not in ((), (1, 1, 1)):
        raise ValueError(f"shape {x.shape} is not (c,) or (1, 1, 1, c)")
    return x.reshape(-1)


# The scales and biases of a GroupNorm in the published files: theirs (1, 1, 1, c), ours (c).
FOUR_D = _single(_without_ones, lambda x: x.reshape(1, 1, 1, -1))
