"""Finds the folder of golden numbers, weights and images, and skips the test where it is absent."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vit_jax import trees

REPOSITORY = Path(__file__).resolve().parent.parent


def shared(*parts: str) -> Path:
    """Returns a path in the shared folder (`VIT_JAX_SHARED`, or beside the checkout), or skips."""
    root = Path(os.environ.get("VIT_JAX_SHARED", REPOSITORY.parent / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}: the shared test data is not beside this checkout")
    return path


def load_json(name: str) -> Any:
    """Reads golden/NAME.json."""
    return json.loads(shared("golden", f"{name}.json").read_text())


def load_arrays(name: str) -> dict[str, Any]:
    """Reads golden/NAME.npz as a nested dict, split at "/" ("params/head/bias")."""
    with np.load(shared("golden", f"{name}.npz")) as file:
        return trees.unflatten({key: file[key] for key in file.files})


def assert_close_to_largest(actual: Any, expected: Any, tolerance: float) -> None:
    """Asserts equal paths and shapes, and |a - b| <= tolerance x the largest entry of each leaf."""
    actual, expected = trees.flatten(actual), trees.flatten(expected)
    assert sorted(actual) == sorted(expected)
    for path, want in expected.items():
        want, got = np.asarray(want, np.float64), np.asarray(actual[path], np.float64)
        assert got.shape == want.shape, path
        scale = max(float(np.abs(want).max()), 1e-30)
        worst = float(np.abs(got - want).max()) / scale
        assert worst <= tolerance, f"{path}: off by {worst:.2e} of its largest entry"
