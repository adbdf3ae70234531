"""Statistics of parts add up to those of the whole, and NaN is counted, not spread."""

import json
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vit_jax.checkpoints import statistics
from vit_jax.checkpoints.statistics import Statistics, measure


def test_of_a_known_array():
    found = measure(np.array([[0.0, -4.0], [1.0, np.nan]], np.float32))
    assert (found.count, found.zeros, found.nan, found.infinite) == (4, 1, 1, 0)
    assert found.mean == -1.0
    assert found.std == pytest.approx(np.std([0, -4, 1]))
    assert (found.low, found.high, found.largest) == (-4.0, 1.0, 4.0)
    assert found.constant is None


@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32)),
    st.integers(0, 40),
)
def test_parts_add_up_to_the_whole(numbers, cut):
    whole = measure(numbers)
    parts = measure(numbers[:cut]) + measure(numbers[cut:])
    assert (parts.count, parts.zeros) == (whole.count, whole.zeros)
    assert (parts.low, parts.high) == (whole.low, whole.high)
    np.testing.assert_allclose(parts.mean, numbers.mean(dtype=np.float64), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(parts.std, numbers.std(dtype=np.float64), rtol=1e-6, atol=1e-6)


def test_pieces_of_a_large_array_and_of_a_view(monkeypatch):
    array = np.random.default_rng(0).normal(size=(50, 31)).astype(np.float32)
    monkeypatch.setattr(statistics, "_PIECE", 64)
    for view in (array, array.T, array[::2, 1:]):
        found = measure(view)
        assert found.count == view.size
        assert found.std == pytest.approx(view.std(dtype=np.float64), rel=1e-9)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int8, np.bool_, np.float64])
def test_every_dtype_of_weights(dtype):
    found = measure(np.array([0, 1, 1, 0], dtype))
    assert (found.mean, found.std, found.zeros) == (0.5, 0.5, 2)


@pytest.mark.parametrize(
    ("numbers", "constant"), [([3, 3], 3), ([3], None), ([3, np.nan], None), ([0, -0.0], 0)]
)
def test_a_constant_is_of_two_or_more_equal_numbers(numbers, constant):
    assert measure(np.array(numbers, np.float32)).constant == constant


@pytest.mark.parametrize("numbers", [[], [np.nan], [np.inf, -np.inf], [1e308, -1e308]])
def test_whatever_the_numbers_json_can_hold_it(numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = measure(np.array(numbers, np.float64)).to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert Statistics() + measure(np.array(numbers)) == measure(np.array(numbers))
