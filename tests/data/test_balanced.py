"""Balanced order: each class as often as any other, each image as often as its class allows."""

import collections
import time

import numpy as np
import pytest

from vit_jax.data import sampling
from vit_jax.data.balanced import ClassBalance

# 30, 6 and 2 images of classes 0, 3 and 4, in no order.
LABELS = np.random.default_rng(0).permutation([0] * 30 + [3] * 6 + [4] * 2).astype(np.int32)


def _rows(steps, batch=12, seed=1, repeats=1):
    made = [ClassBalance(LABELS).rows(seed, step, batch, repeats) for step in steps]
    return tuple(np.concatenate(parts) for parts in zip(*made, strict=True))


def test_a_batch_holds_every_class_as_often():
    for step in range(20):
        _, indices = _rows([step])
        assert collections.Counter(LABELS[indices].tolist()) == {0: 4, 3: 4, 4: 4}


def test_where_classes_do_not_divide_the_batch_the_stream_is_balanced_still():
    _, indices = _rows(range(30), batch=10)
    assert set(collections.Counter(LABELS[indices].tolist()).values()) == {100}


def test_images_of_a_class_take_turns():
    draws, indices = _rows(range(30))  # 120 of each class
    for label, size in ((0, 30), (3, 6), (4, 2)):
        own = np.flatnonzero(label == LABELS)
        of_class = np.flatnonzero(LABELS[indices] == label)
        for turn in range(120 // size):
            rows = of_class[turn * size : (turn + 1) * size]
            assert sorted(indices[rows]) == own.tolist()
            assert set(draws[rows].tolist()) == {turn}


def test_no_example_is_ever_drawn_twice_under_one_number():
    """Seed, draw and index decide the augmentation: a pair seen twice would be an image twice."""
    for repeats in (1, 3):
        pairs = list(zip(*_rows(range(40), repeats=repeats), strict=True))
        assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(
    ("seed", "step", "expected"),
    [
        (1, 0, [9, 31, 37, 26, 8, 12, 6, 8, 33, 32, 31, 35]),
        (7, 10**6, [30, 8, 35, 31, 37, 1, 31, 14, 6, 35, 8, 21]),
    ],
)
def test_the_order_of_images_never_changes(seed, step, expected):
    """A change here would continue interrupted runs in another order than they began."""
    assert _rows([step], seed=seed)[1].tolist() == expected


def test_seeds_differ():
    assert _rows([0], seed=1)[1].tolist() != _rows([0], seed=2)[1].tolist()


def test_copies_of_repeated_augmentation_are_balanced_too():
    draws, indices = _rows([5], repeats=2)
    first, second = indices[:6], indices[6:]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(draws[:6] + 1, draws[6:])
    assert collections.Counter(LABELS[first].tolist()) == {0: 2, 3: 2, 4: 2}


def test_a_far_step_of_a_large_split_is_found_at_once():
    labels = np.random.default_rng(0).integers(0, 1000, 300_000).astype(np.int32)
    start = time.perf_counter()
    ClassBalance(labels).rows(0, 10**6, 1024)
    sampling.training_rows(0, 10**6, 1024, 300_000)
    assert time.perf_counter() - start < 1
