"""Which checkpoints of a run stay."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vit_jax.errors import ConfigError

Scores = Mapping[str, float]

LOWER_IS_BETTER = ("loss",)


@dataclass(frozen=True)
class Retention:
    """A rule of three parts; a checkpoint stays if one of them asks for it.

    Attributes:
      newest: how many of the newest stay, at least 1.
      every: those whose step this divides stay; None asks for none.
      best: the name of a score; the checkpoint with the best one stays, the newer of equals. A
        checkpoint that was not scored, or whose score is not finite, is never the best. None asks
        for none.

    Raises:
      ConfigError: `newest` or `every` is less than 1.
    """

    newest: int = 2
    every: int | None = None
    best: str | None = None

    def __post_init__(self) -> None:
        if self.newest < 1:
            raise ConfigError(
                f"keep={self.newest}: a store keeps at least 1 checkpoint; set keep >= 1"
            )
        if self.every is not None and self.every < 1:
            raise ConfigError(f"every={self.every}: must be at least 1; None keeps none for good")

    def kept(self, steps: Sequence[int], scores: Callable[[int], Scores]) -> set[int]:
        """Returns those of `steps`, oldest first, that stay.

        Args:
          steps: the intact ones.
          scores: gives what a step scored in an evaluation; {} if there was none.
        """
        kept = set(steps[-self.newest :])
        if self.every is not None:
            kept |= {step for step in steps if step % self.every == 0}
        if self.best is not None:
            kept |= set(self._best(steps, self.best, scores))
        return kept

    def _best(
        self, steps: Sequence[int], name: str, scores: Callable[[int], Scores]
    ) -> Sequence[int]:
        sign = -1 if name in LOWER_IS_BETTER else 1
        scored = [(sign * scores(step).get(name, math.nan), step) for step in steps]
        finite = [(score, step) for score, step in scored if math.isfinite(score)]
        return [max(finite)[1]] if finite else []
