"""Steps that lead to what is not finite: never kept; the run stops, or counts them."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.errors import NonFiniteError
from vit_jax.settings.rules import LARGEST_RATE

# What a guarded step measures for the guard alone.
KEPT, FINITE_LEAVES = "kept", "finite_leaves"
STEPS = "nonfinite_steps"  # in metrics.jsonl, where such steps are skipped

logger = logging.getLogger("vit_jax")

_NAMED = ("loss", "grad_norm", "learning_rate")


class NonFiniteGuard:
    """Looks at every step of a run; what it counts is saved with each checkpoint.

    The step itself has left parameters, optimiser, average and batch statistics as they were: the
    guard decides whether the run may go on. Several processes come to the same decision, as they
    see the same metrics.

    Args:
      policy: 'stop' or 'skip'.
      limit: how many steps of a run may be skipped.
      row_limit: how many in a row.
      leaves: paths of the parameters, in JAX's order.
      examples: returns the indices of the examples in the batch of a step.
      dump: the file that tells of the last such step; None writes none.

    Attributes:
      total, row: steps skipped so far, and since the last one that was kept.
    """

    def __init__(
        self,
        policy: str,
        limit: int,
        row_limit: int,
        leaves: Sequence[str],
        examples: Callable[[int], Sequence[int]],
        dump: Path | None = None,
    ):
        self._skips, self._limit, self._row_limit = policy == "skip", limit, row_limit
        self._leaves, self._examples, self._dump = tuple(leaves), examples, dump
        self.total = self.row = 0

    def counts(self) -> dict[str, int]:
        """Returns what a checkpoint keeps."""
        return {"total": self.total, "row": self.row}

    def resume(self, counts: Mapping[str, int]) -> None:
        """Goes on from what a checkpoint kept; one that kept nothing had skipped nothing."""
        self.total, self.row = counts.get("total", 0), counts.get("row", 0)

    def __call__(self, step: int, measured: dict[str, Any]) -> None:
        """Takes its own entries out of what a step measured, and adds the count of those skipped.

        Raises:
          NonFiniteError: the step was not kept, and the run stops for it.
        """
        kept = bool(measured.pop(KEPT))
        finite = np.asarray(measured.pop(FINITE_LEAVES))
        self.row = 0 if kept else self.row + 1
        self.total += not kept
        if not kept:
            told = self._told(step, measured, finite)
            self._stop_if_due(step, measured, f" (details: {self._dump})" if told else "")
        if self._skips:
            measured[STEPS] = self.total

    def _stop_if_due(self, step: int, measured: Mapping[str, Any], details: str) -> None:
        what = f"step {step}: {_reason(measured)}; the step was not kept"
        if not self._skips:
            raise NonFiniteError(
                f"{what}{details}. Lower config.base_lr, lengthen config.warmup_steps or lower "
                "config.grad_norm_clip, or leave such steps out with config.nonfinite=skip; the "
                "same command without changes goes on from the last checkpoint"
            )
        for count, limit, name, where in (
            (self.row, self._row_limit, "nonfinite_row_limit", "in a row"),
            (self.total, self._limit, "nonfinite_limit", "in all"),
        ):
            if count > limit:
                raise NonFiniteError(
                    f"{what}{details}. It is number {count} {where}, and config.{name}={limit}: "
                    "lower config.base_lr, or raise the limit"
                )

    def _told(self, step: int, measured: Mapping[str, Any], finite: np.ndarray) -> bool:
        """Returns whether the file tells of the step; where it cannot, the run goes on as it is."""
        if self._dump is None:
            return False
        content = {
            "step": step,
            "examples": [int(index) for index in self._examples(step)],
            # JSON has no NaN and no infinity: as text.
            **{name: _as_json(measured[name]) for name in _NAMED if name in measured},
            "nonfinite_gradients": [
                path for path, good in zip(self._leaves, finite, strict=True) if not good
            ],
            "skipped": self.counts() if self._skips else None,
        }
        partial = self._dump.with_suffix(".json.part")
        try:
            self._dump.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(self._dump)
        except OSError as error:
            logger.warning("%s cannot be written (%s)", self._dump, error.strerror or error)
            return False
        return True


def _reason(measured: Mapping[str, Any]) -> str:
    bad = [
        f"{name}={float(measured[name])}"
        for name in _NAMED
        if name in measured and not math.isfinite(float(measured[name]))
    ]
    if bad:
        return f"{', '.join(bad)} is not finite"
    if (rate := float(measured.get("learning_rate", 0))) > LARGEST_RATE:
        return f"learning_rate={rate:g} is above {LARGEST_RATE:g}, where parameters may overflow"
    return "loss and gradient are finite, but the batch statistics they lead to are not"


def _as_json(number: Any) -> float | str:
    value = float(number)
    return value if math.isfinite(value) else str(value)
