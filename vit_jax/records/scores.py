"""Scores of a classifier, from what became of each example: exact counts, sums in float64."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64

from vit_jax.errors import DataError

BINS = 15  # of confidence, of one width (Guo et al. 2017, section 2)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What became of the n examples of a split that could be read, in the split's order.

    Attributes:
      index: place of each in its source.
      labels, predicted: class index of each, and that of the most probable class.
      confidence: probability of the predicted class.
      loss: cross-entropy, in nats.
      top5: whether the label is among the five most probable classes.
      num_classes: k.
      scored: how many were asked for; more than n where images could not be read.
    """

    index: Int64[np.ndarray, "n"]
    labels: Int32[np.ndarray, "n"]
    predicted: Int32[np.ndarray, "n"]
    confidence: Float32[np.ndarray, "n"]
    loss: Float32[np.ndarray, "n"]
    top5: Bool[np.ndarray, "n"]
    num_classes: int
    scored: int

    @property
    def correct(self) -> Bool[np.ndarray, "n"]:
        """Whether the predicted class is the label."""
        return self.labels == self.predicted

    def summary(self) -> dict[str, float]:
        """Returns the scores that an evaluation logs.

        `loss` (nats), `accuracy`, `top5_accuracy`, `macro_f1`, `weighted_f1` and `ece`; where
        images could not be read, `skipped` is their number.
        """
        skipped = self.scored - len(self.labels)
        return {
            "loss": float(self.loss.mean(dtype=np.float64)),
            "accuracy": float(self.correct.mean()),
            "top5_accuracy": float(self.top5.mean()),
            "macro_f1": self.classes.macro_f1,
            "weighted_f1": self.classes.weighted_f1,
            "ece": Calibration.of(self).error,
            **({"skipped": skipped} if skipped else {}),
        }

    @functools.cached_property
    def classes(self) -> "Classes":
        """Counts and scores of each class."""
        count = functools.partial(np.bincount, minlength=self.num_classes)
        right = count(self.labels[self.correct])
        return Classes(count(self.labels), count(self.predicted), right)

    @property
    def _cells(self) -> Int64[np.ndarray, "n"]:
        """The place of each example in the confusion matrix, row by row."""
        return self.labels.astype(np.int64) * self.num_classes + self.predicted

    def confusion(self) -> Int64[np.ndarray, "k k"]:
        """Returns how often each class (row) was taken for each class (column).

        As `confused_pairs` has the same counts, a model of many thousand classes needs it never.
        """
        counts = np.bincount(self._cells, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """Returns (label, predicted, count) of the pairs that occur, most frequent first."""
        found, counts = np.unique(self._cells, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        pairs = zip(*divmod(found[order], self.num_classes), counts[order], strict=True)
        return [(int(label), int(predicted), int(count)) for label, predicted, count in pairs]


def gathered(
    batches: Sequence[Mapping[str, np.ndarray]], num_classes: int, scored: int
) -> Outcomes:
    """Returns the outcomes of all rows of the batches, in order, whose mask is 1.

    Raises:
      DataError: there are none.
    """
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    (index,) = np.nonzero(rows["mask"])
    if not len(index):
        raise DataError(f"none of the {scored} images of the split could be read")
    rows = {name: values[index] for name, values in rows.items()}
    return Outcomes(
        index.astype(np.int64),
        rows["label"].astype(np.int32),
        rows["predicted"].astype(np.int32),
        rows["confidence"],
        rows["loss"],
        rows["top5"],
        num_classes,
        scored,
    )


@dataclasses.dataclass(frozen=True)
class Classes:
    """Counts of each of k classes, and scores made of them.

    Attributes:
      support: examples of the class.
      predicted: examples taken for it.
      right: examples of the class that were taken for it.
    """

    support: Int[np.ndarray, "k"]
    predicted: Int[np.ndarray, "k"]
    right: Int[np.ndarray, "k"]

    @property
    def precision(self) -> Float[np.ndarray, "k"]:
        """Share of what was taken for the class that is of it; NaN where nothing was."""
        return _ratio(self.right, self.predicted)

    @property
    def recall(self) -> Float[np.ndarray, "k"]:
        """Share of the class that was taken for it; NaN where there are no examples of it."""
        return _ratio(self.right, self.support)

    @property
    def f1(self) -> Float[np.ndarray, "k"]:
        """Harmonic mean of both; NaN for a class that is neither a label nor predicted."""
        return _ratio(2 * self.right, self.support + self.predicted)

    @property
    def macro_f1(self) -> float:
        """Mean of F1 over the classes that are a label or predicted, each counting the same."""
        return float(np.nanmean(self.f1))

    @property
    def weighted_f1(self) -> float:
        """Mean of F1 over the examples, each with that of its class."""
        return float(np.nan_to_num(self.f1) @ self.support / self.support.sum())


def real_accuracy(outcomes: Outcomes, valid: Sequence[Collection[int]]) -> tuple[float | None, int]:
    """Returns the share of examples whose predicted class is among the valid ones, and of how many.

    Examples without a valid class are left out; if all are, there is no score (Beyer et al. 2020,
    "Are we done with ImageNet?", arXiv:2006.07159, section 4).

    Args:
      outcomes: of a split.
      valid: classes of each example of its source.
    """
    pairs = [
        (predicted, valid[place])
        for place, predicted in zip(outcomes.index, outcomes.predicted, strict=True)
        if valid[place]
    ]
    right = sum(int(predicted) in classes for predicted, classes in pairs)
    return (right / len(pairs) if pairs else None), len(pairs)


def _ratio(part: Int[np.ndarray, "k"], whole: Int[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
    """Returns part / whole; NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How confidence compares with accuracy (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", arXiv:1706.04599).

    Attributes, for each of the bins of confidence ((i - 1)/m, i/m]:
      count: examples.
      confidence: sum of their confidences.
      correct: how many are right.
    """

    count: Int[np.ndarray, "m"]
    confidence: Float[np.ndarray, "m"]
    correct: Float[np.ndarray, "m"]

    @classmethod
    def of(cls, outcomes: Outcomes, bins: int = BINS) -> "Calibration":
        """Returns the sums of each bin."""
        confidence = outcomes.confidence.astype(np.float64)
        edges = np.linspace(0, 1, bins + 1)[1:-1]
        place = np.searchsorted(edges, confidence, side="left")
        add = functools.partial(np.bincount, place, minlength=bins)
        return cls(add(), add(confidence), add(outcomes.correct.astype(np.float64)))

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the examples of |accuracy - confidence| of their
        bin (eq. 3)."""
        return float(np.abs(self.correct - self.confidence).sum() / self.count.sum())


def to_json(outcomes: Outcomes, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns all scores as JSON knows them.

    `classes` has one entry a class, whose `precision`, `recall` or `f1` is None where it is not
    defined; `calibration` one for each bin of confidence that has images; `confusion` is a list of
    [label, predicted, count] of the pairs that occur, by class index.
    """
    classes, bins = outcomes.classes, Calibration.of(outcomes)
    columns = (classes.support, classes.precision, classes.recall, classes.f1)
    sums = zip(bins.count, bins.confidence, bins.correct, strict=True)
    return {
        **outcomes.summary(),
        "images": len(outcomes.labels),
        "classes": [
            {"name": name, "images": int(support), **_scores(*rest)}
            for name, support, *rest in zip(class_names, *columns, strict=True)
        ],
        "calibration": [
            {
                "confidence_up_to": (i + 1) / len(bins.count),
                "images": int(count),
                "confidence": float(confidence / count),
                "accuracy": float(correct / count),
            }
            for i, (count, confidence, correct) in enumerate(sums)
            if count
        ],
        "confusion": [list(pair) for pair in outcomes.confused_pairs()],
    }


def _scores(*values: float) -> dict[str, float | None]:
    names = ("precision", "recall", "f1")
    shown = (None if np.isnan(value) else float(value) for value in values)
    return dict(zip(names, shown, strict=True))


def score_line(scores: Mapping[str, float], count: int) -> str:
    """Returns a test score in words; `train` and `evaluate` print the same."""
    skipped = int(scores.get("skipped", 0))
    images = f"{count - skipped:,} images" + (f", {skipped:,} unreadable" if skipped else "")
    return f"{describe(scores)}  ({images})"


def describe(scores: Mapping[str, float]) -> str:
    """Returns the scores of a summary in words."""
    if "accuracy" not in scores:
        return "test " + "  ".join(
            f"{name.replace('_recall_', ' recall@').replace('_', ' ')} {100 * value:.2f} %"
            for name, value in scores.items()
            if "_recall_" in name
        )
    return (
        f"test accuracy {100 * scores['accuracy']:.2f} %  top-5 "
        f"{100 * scores['top5_accuracy']:.2f} %  macro F1 {100 * scores['macro_f1']:.2f} %  "
        f"loss {scores['loss']:.4f}  calibration error {100 * scores['ece']:.2f} %"
    )
