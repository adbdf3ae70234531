"""Tables of one vector per patch, resized from one grid of patches to another."""

import math
from typing import Any

import numpy as np

from vit_jax.errors import ConfigError, nearest

Grid = tuple[int, int]  # rows and columns of patches


def square_grid(rows: int) -> Grid | None:
    """Returns (√rows, √rows), or None if so many rows make no square."""
    side = math.isqrt(rows)
    return (side, side) if side * side == rows else None


def resize_grid(table: Any, old: Grid, new: Grid, method: str = "bilinear") -> Any:
    """Resizes a table of one row per patch, row by row of the grid.

    Args:
      table: (old rows × old columns, d), NumPy or JAX; what comes back is of the same kind.
      old, new: the grids, as (rows, columns); neither need be square.
      method: a name of `METHODS`.

    Returns:
      (new rows × new columns, d), interpolated along columns and rows.

    Raises:
      ConfigError: an unknown method, or a table that does not fit the old grid.
    """
    if method not in METHODS:
        raise ConfigError(
            f"resize={method!r} is none of {', '.join(METHODS)}{nearest(method, METHODS)}"
        )
    if table.shape[0] != old[0] * old[1]:
        raise ConfigError(
            f"{table.shape[0]} position embeddings do not make a grid of {show(old)}; "
            "name the grid that they were made for"
        )
    if old == new:
        return table
    down, across = (METHODS[method](a, b) for a, b in zip(old, new, strict=True))
    grid = table.reshape(*old, -1).transpose(2, 0, 1)  # (h w) d -> d h w
    resized = down.astype(table.dtype) @ grid @ across.astype(table.dtype).T
    return resized.transpose(1, 2, 0).reshape(new[0] * new[1], -1)


def show(grid: Grid) -> str:
    """Returns "14×14"."""
    return f"{grid[0]}×{grid[1]}"


def _corner_aligned(old: int, new: int) -> np.ndarray:
    """Linear interpolation that keeps the first and last point: the official zoom of order 1."""
    points = np.arange(new) * ((old - 1) / max(new - 1, 1))
    distance = np.abs(points[:, None] - np.arange(old)[None])
    return np.maximum(1 - distance, 0)


def _bicubic(old: int, new: int) -> np.ndarray:
    """Keys' cubic (a = -1/2) at half-pixel centres, widened when shrinking, as timm resizes."""
    scale = max(old / new, 1.0)
    points = (np.arange(new) + 0.5) * (old / new) - 0.5
    x = np.abs(points[:, None] - np.arange(old)[None]) / scale
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


# How a table is resized, by name; each gives the matrix (new, old) along one side of the grid.
METHODS = {"bilinear": _corner_aligned, "bicubic": _bicubic}
