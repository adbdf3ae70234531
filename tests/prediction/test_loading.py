"""Batches of one shape, in order, read ahead, whatever is unreadable."""

import threading
import time

import numpy as np
import pytest

from vit_jax.errors import DataError
from vit_jax.prediction.loading import load


def image_of(name: str):
    return np.full((2, 3, 3), int(name), np.uint8)


def slow(name: str):
    time.sleep(0.02 if int(name) % 3 == 0 else 0)  # later ones are ready sooner
    return image_of(name)


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (8, 4), (3, 3), (1, 1)])
def test_order_and_shape_are_kept(count, batch):
    names = [str(i) for i in range(count)]
    batches = list(load(names, slow, batch, (2, 3), threads=3))
    assert [name for one in batches for name in one.names] == names
    assert {one.images.shape for one in batches} == {(batch, 2, 3, 3)}
    for one in batches:
        for place, name in enumerate(one.names):
            assert (one.images[place] == int(name)).all()
    assert len(batches) == -(-count // batch)


def test_unreadable_images_are_told_and_leave_no_gap():
    def read(name):
        if int(name) % 2:
            raise DataError(f"{name} is odd")
        return image_of(name)

    batches = list(load([str(i) for i in range(9)], read, 2, (2, 3), threads=2))
    assert [one.names for one in batches] == [("0", "2"), ("4", "6"), ("8",)]
    assert [one.unreadable for one in batches] == [
        *(("1 is odd",), ("3 is odd", "5 is odd"), ("7 is odd",)),
    ]
    (last,) = load(["1"], read, 1, (2, 3), threads=1)
    assert (last.names, last.unreadable) == ((), ("1 is odd",))


def test_only_a_few_batches_are_read_ahead_and_who_leaves_ends_the_threads():
    begun: list[str] = []

    def read(name):
        begun.append(name)
        return image_of("1")

    before = threading.active_count()
    batches = load([str(i) for i in range(1000)], read, 4, (2, 3), threads=2)
    next(batches)
    time.sleep(0.1)
    assert 4 <= len(begun) <= 30
    del batches
    assert threading.active_count() == before
    assert len(begun) <= 30


def test_an_error_of_the_program_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(load(["0"], lambda name: image_of(str(1 // int(name))), 1, (2, 3), threads=1))
