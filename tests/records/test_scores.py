"""Scores are those of scikit-learn, whatever is absent, tied or masked."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from vit_jax.errors import DataError
from vit_jax.records import metrics
from vit_jax.records.scores import Calibration, gathered, real_accuracy, to_json


def judged(logits, labels, mask=None, parts=1):
    """Returns the outcomes of rows of logits, computed in so many batches."""
    mask = np.ones(len(labels), np.float32) if mask is None else mask
    batches = [
        {
            **jax.device_get(metrics.outcomes(jnp.asarray(a), jnp.asarray(b))),
            "mask": m,
        }
        for a, b, m in zip(*(np.array_split(x, parts) for x in (logits, labels, mask)), strict=True)
    ]
    return gathered(batches, logits.shape[1], int(mask.sum()))


def examples(case, count=400, classes=7):
    """Returns float32 logits and labels, of which some are right."""
    draw = np.random.default_rng(3)
    labels = draw.integers(0, classes, count).astype(np.int32)
    logits = draw.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += draw.normal(1, 1, count)
    if case == "absent":  # 5 is predicted but never a label, 6 is neither
        labels[labels >= 5] = 0
        logits[:, 6] = -20
    if case == "ties":
        logits = np.round(logits)
    if case == "one class":
        labels[:] = 2
    return logits.astype(np.float32), labels


sklearn: Any = sklearn_metrics  # its stubs know zero_division as a word alone
CASES = ["random", "absent", "ties", "one class"]


@pytest.mark.parametrize("case", CASES)
def test_they_are_those_of_scikit_learn(case):
    logits, labels = examples(case)
    outcomes, predicted = judged(logits, labels, parts=3), logits.argmax(1)
    found = to_json(outcomes, tuple("abcdefg"))
    assert found["accuracy"] == sklearn.accuracy_score(labels, predicted)
    for average in ("macro", "weighted"):
        expected = sklearn.f1_score(labels, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected, abs=1e-6)
    matrix = sklearn.confusion_matrix(labels, predicted, labels=range(7))
    np.testing.assert_array_equal(outcomes.confusion(), matrix)
    listed = np.zeros((7, 7), int)
    for label, taken_for, count in found["confusion"]:
        listed[label, taken_for] = count
    np.testing.assert_array_equal(listed, matrix)
    expected = sklearn.precision_recall_fscore_support(
        labels, predicted, labels=range(7), zero_division=np.nan
    )
    for name, column in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        shown = np.array([one[name] for one in found["classes"]], float)  # None becomes NaN
        np.testing.assert_allclose(shown, np.asarray(column), atol=1e-6)


def test_loss_and_top5_are_those_of_scikit_learn():
    logits, labels = examples("random")
    chances = np.exp(logits.astype(np.float64))
    chances /= chances.sum(1, keepdims=True)
    found = judged(logits, labels).summary()
    assert found["loss"] == pytest.approx(sklearn.log_loss(labels, chances), abs=1e-6)
    assert found["top5_accuracy"] == sklearn.top_k_accuracy_score(labels, chances, k=5)


@pytest.mark.parametrize("case", ["random", "one class"])
def test_calibration_error_is_made_of_scikit_learns_curve(case):
    logits, labels = examples(case)
    chances = np.exp(logits.astype(np.float64))
    confidence = (chances / chances.sum(1, keepdims=True)).max(1)
    right = logits.argmax(1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = np.abs(accuracy - mean) @ counts[counts > 0] / counts.sum()
    assert judged(logits, labels).summary()["ece"] == pytest.approx(expected, abs=1e-6)


def test_calibration_of_a_model_that_is_always_sure_is_its_error_rate():
    labels = np.arange(20, dtype=np.int32) % 4
    sure = 50 * np.eye(4, dtype=np.float32)[np.where(labels == 0, 1, labels)]
    found = Calibration.of(judged(sure, labels))
    assert found.error == pytest.approx(0.25)
    np.testing.assert_array_equal(found.count, [0] * 14 + [20])


def test_a_confidence_between_two_bins_is_in_the_lower_one():
    found = Calibration.of(judged(np.zeros((3, 2), np.float32), np.array([0, 0, 1], np.int32)), 4)
    np.testing.assert_array_equal(found.count, [0, 3, 0, 0])
    np.testing.assert_allclose([found.confidence[1], found.correct[1]], [1.5, 2])


@pytest.mark.parametrize("parts", [1, 5])
def test_padding_does_not_count_and_places_are_kept(parts):
    logits, labels = examples("random", 60)
    mask = (np.random.default_rng(0).random(60) < 0.6).astype(np.float32)
    masked, alone = judged(logits, labels, mask, parts), judged(logits[mask > 0], labels[mask > 0])
    assert masked.summary() == alone.summary()
    np.testing.assert_array_equal(masked.index, np.flatnonzero(mask))
    with pytest.raises(DataError, match="none of the 0 images"):
        judged(logits, labels, np.zeros(60, np.float32))


def test_a_thousand_classes_stay_cheap_and_are_json():
    logits, labels = examples("random", 300, 1000)
    text = json.dumps(to_json(judged(logits, labels), [str(i) for i in range(1000)]))
    assert "NaN" not in text
    assert sum(count for *_, count in json.loads(text)["confusion"]) == 300


def test_real_accuracy_takes_any_valid_class_and_leaves_out_images_without():
    labels = np.array([0, 1, 2, 3], np.int32)
    outcomes = judged(np.eye(4, dtype=np.float32)[[0, 2, 2, 1]], labels)
    valid = [{0}, {1, 2}, set(), {3}]
    assert real_accuracy(outcomes, valid) == (2 / 3, 3)
    assert real_accuracy(outcomes, [set()] * 4) == (None, 0)
