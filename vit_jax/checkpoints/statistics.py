"""What the numbers of an array are like, measured piece by piece: a large one takes no more memory.

Two measurements are added to that of all their numbers (Chan, Golub and LeVeque, 1983).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

_PIECE = 2**20  # numbers held in double precision at once


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of so many numbers; all but the first four fields are of the finite ones.

    Attributes:
      count: all of them.
      zeros, nan, infinite: how many are so.
      mean, squares: their mean, and the sum of the squared differences from it.
      low, high: the smallest and the largest.
    """

    count: int = 0
    zeros: int = 0
    nan: int = 0
    infinite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @property
    def finite(self) -> int:
        """How many are neither NaN nor infinite."""
        return self.count - self.nan - self.infinite

    @property
    def std(self) -> float:
        """The standard deviation; 0 where nothing is finite."""
        return math.sqrt(self.squares / self.finite) if self.finite else 0.0

    @property
    def largest(self) -> float:
        """The largest absolute value; 0 where nothing is finite."""
        return max(abs(self.low), abs(self.high)) if self.finite else 0.0

    @property
    def constant(self) -> float | None:
        """The value that all of them, at least two, have; None where they differ."""
        return self.low if 1 < self.count == self.finite and self.low == self.high else None

    def __add__(self, other: "Statistics") -> "Statistics":
        finite = self.finite + other.finite
        share = other.finite / finite if finite else 0.0
        apart = other.mean - self.mean
        return Statistics(
            self.count + other.count,
            self.zeros + other.zeros,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.mean + apart * share,
            self.squares + other.squares + apart**2 * self.finite * share,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what a reader wants to know, as JSON has it."""
        figures: dict[str, Any] = {"count": self.count}
        for name in ("mean", "std", "largest"):
            value = getattr(self, name)
            figures[name] = value if self.finite and math.isfinite(value) else None
        return {**figures, "zeros": self.zeros, "nan": self.nan, "infinite": self.infinite}


def measure(array: np.ndarray) -> Statistics:
    """Returns the statistics of an array of any dtype of weights, in double precision."""
    return sum((_of(piece) for piece in _pieces(array)), Statistics())


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE].astype(np.float64)


def _of(numbers: np.ndarray) -> Statistics:
    finite = numbers[np.isfinite(numbers)]
    nan = int(np.count_nonzero(np.isnan(numbers)))
    counts = (numbers.size, int(np.count_nonzero(numbers == 0)), nan)
    infinite = numbers.size - finite.size - nan
    if not finite.size:
        return Statistics(*counts, infinite)
    with np.errstate(over="ignore"):  # of values near the end of float64
        mean = float(finite.mean())
        squares = float(np.square(finite - mean).sum())
    return Statistics(*counts, infinite, mean, squares, float(finite.min()), float(finite.max()))
