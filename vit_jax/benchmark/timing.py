"""Times of something done again and again."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from vit_jax.runtime import signals

MIN_STEPS = 3
SAMPLE_SECONDS = 0.02

# Takes what the one before returned: `carry, result = step(carry)`.
Repeated = Callable[[Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median, least and greatest of several times."""

    median: float
    min: float
    max: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 1000 else 1 if self.median >= 10 else 3
        least, greatest = f"{self.min:,.{digits}f}", f"{self.max:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({least} – {greatest})"


def spread(values: Sequence[float], scale: float = 1.0) -> Spread:
    """Returns the spread of values, each times `scale`."""
    return Spread(*(scale * float(f(values)) for f in (np.median, np.min, np.max)))


def repetitions(seconds: float, at_least: int = MIN_STEPS) -> Iterator[int]:
    """Counts from 0 until so many seconds are over, but to `at_least`; Ctrl-C ends it."""
    end = time.perf_counter() + seconds
    for count in itertools.count():
        signals.obey()
        if count >= at_least and time.perf_counter() >= end:
            return
        yield count


def step_seconds(step: Repeated, carry: Any, seconds: float) -> list[float]:
    """Returns how long each step took, until so many seconds are over, but of three at least.

    As in the loop of training, one step is dispatched ahead of the one that is waited for. `step`
    is compiled already.
    """
    carry, waiting = step(carry)
    ends: list[float] = []
    for _ in repetitions(seconds, MIN_STEPS + 1):
        carry, ahead = step(carry)
        jax.block_until_ready(waiting)
        ends.append(time.perf_counter())
        waiting = ahead
    jax.block_until_ready(waiting)
    return np.diff(ends).tolist()


def call_seconds(call: Callable[[], Any], seconds: float) -> list[float]:
    """Returns the seconds of a call, several times, until so many seconds are over.

    Each is the mean over as many calls as take `SAMPLE_SECONDS`, all dispatched at once, so that
    short ones are not hidden behind the time to call them. `call` is compiled already.
    """
    once, _ = timed(call)
    together = max(1, round(SAMPLE_SECONDS / once))
    found = []
    for _ in repetitions(seconds):
        whole, _ = timed(lambda: [call() for _ in range(together)][-1])
        found.append(whole / together)
    return found


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds of a call, until its result is there, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result
