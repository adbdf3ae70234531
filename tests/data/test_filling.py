"""Batches filled by threads: complete, in order, no more under way than allowed, none left over."""

import threading
import time

import numpy as np
import pytest

from vit_jax.data.filling import ahead, filled

SIZE = 37


def _blank(count, made=None):
    for number in range(count):
        if made is not None:
            made.append(number)
        yield {"index": np.arange(number * SIZE, (number + 1) * SIZE), "twice": np.zeros(SIZE, int)}


def _double(batch, place):
    time.sleep(1e-4 * (place % 3))  # so that they do not end as they began
    batch["twice"][place] = 2 * batch["index"][place]


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (3, 2), (16, 4), (100, 1)])
def test_every_place_is_filled_once_and_batches_keep_their_order(threads, count):
    calls = []

    def fill(batch, place):
        calls.append(int(batch["index"][place]))
        _double(batch, place)

    batches = list(filled(_blank(7), fill, threads, count))
    index = np.concatenate([batch["index"] for batch in batches])
    np.testing.assert_array_equal(index, np.arange(7 * SIZE))
    np.testing.assert_array_equal(np.concatenate([b["twice"] for b in batches]), 2 * index)
    assert sorted(calls) == index.tolist()


def test_work_is_shared_by_the_threads():
    seen = set()

    def fill(batch, place):
        seen.add(threading.get_ident())
        _double(batch, place)

    list(filled(_blank(6), fill, 4, 2))
    assert len(seen) == 4
    assert threading.get_ident() not in seen


def test_no_more_are_under_way_than_allowed():
    made = []
    for number, _ in enumerate(filled(_blank(9, made), _double, 2, 3)):
        assert made == list(range(min(number + 4, 9)))


def test_an_error_comes_with_its_batch():
    def fill(batch, place):
        if batch["index"][place] == 3 * SIZE + 5:
            raise ValueError("the fourth")
        _double(batch, place)

    batches = filled(_blank(9), fill, 4, 2)
    for _ in range(3):
        next(batches)
    with pytest.raises(ValueError, match="the fourth"):
        next(batches)


def test_what_is_abandoned_is_not_gone_on_with():
    filled_rows, before = [], {*threading.enumerate()}  # others' threads may end meanwhile

    def fill(batch, place):
        time.sleep(0.002)
        filled_rows.append(place)

    batches = filled(_blank(5), fill, 2, 4)
    next(batches)
    batches.close()
    for _ in range(200):
        if {*threading.enumerate()} <= before:
            break
        time.sleep(0.01)
    assert {*threading.enumerate()} <= before
    assert len(filled_rows) < 3 * SIZE


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_ahead_keeps_the_order_and_the_distance(count):
    made = []
    taken = []
    for value in ahead((made.append(i) or i for i in range(6)), count):
        taken.append(value)
        assert len(made) == min(value + count + 1, 6)
    assert taken == list(range(6))
