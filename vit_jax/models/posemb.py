"""Position embeddings: learned or fixed, on any grid of patches."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.grids import Grid, resize_grid, show, square_grid
from vit_jax.models.products import for_each

KINDS = ("learned", "sincos2d", "none")


@dataclasses.dataclass(frozen=True)
class Positions:
    """Which positions the tokens are given.

    Attributes:
      kind: "learned" (official), "sincos2d" (fixed sines and cosines, no parameters) or "none".
      grid: (rows, columns) of patches that learned positions were made for. None takes it from the
        images: theirs is meant where it has as many patches as there are positions, of whatever
        shape, and a square otherwise.
      resize: how learned positions are resized for images of another grid, when the model is
        called: "bilinear" (official) or "bicubic" (timm); None refuses such images.
      class_row: whether the class token has a position too, the table's first row (official).
    """

    kind: str = "learned"
    grid: Grid | None = None
    resize: str | None = None
    class_row: bool = True

    @classmethod
    def parse(cls, given: Any) -> "Positions":
        """Reads a kind's name, a mapping of the attributes, or a `Positions`."""
        if isinstance(given, Positions):
            return given
        fields: dict[str, Any] = {"kind": given} if isinstance(given, str) else dict(given)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise ConfigError(
                    f"positions field {name!r} is unknown{nearest(name, known)} "
                    f"(the fields are {', '.join(known)})"
                )
        positions = cls(**fields)
        if positions.kind not in KINDS:
            raise ConfigError(
                f"positions={positions.kind!r} is none of {', '.join(KINDS)}"
                f"{nearest(str(positions.kind), KINDS)}"
            )
        grid = None if positions.grid is None else tuple(positions.grid)
        return dataclasses.replace(positions, grid=grid)


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """What the tokens are: some in front, then registers, then a grid of patches, row by row."""

    grid: Grid
    front: int = 0  # class token, distillation token
    registers: int = 0


def sincos2d(grid: Grid, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """Returns (rows × columns, width): sines and cosines of the column, then of the row.

    Source: arXiv:2104.02057, section A; the layout is that of big_vision and MoCo v3. `ConfigError`
    unless the width is a multiple of 4.
    """
    if width % 4:
        raise ConfigError(
            f"hidden_size={width} must be a multiple of 4 for sincos2d positions; "
            f"the next one is {width + 4 - width % 4}"
        )
    frequencies = temperature ** -np.linspace(0, 1, width // 4)
    y, x = np.mgrid[: grid[0], : grid[1]].reshape(2, -1, 1) * frequencies
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)


class AddPositionEmbs(nn.Module):
    """Adds one vector per token; registers have none.

    Parameter, where positions are learned: `pos_embedding` (1, n, d) ~ N(0, 0.02), one row per
    token, those in front first (arXiv:2010.11929, section 3.1; official initial values).
    """

    positions: Positions = Positions()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], layout: TokenLayout | None = None
    ) -> Float[Array, "b n d"]:
        """Returns `x` plus the embeddings, in the dtype of `x`; without a layout, all are patches.

        `ConfigError` if learned positions were made for another grid and may not be resized.
        """
        layout = layout or TokenLayout((x.shape[1], 1))
        with_rows = layout.front if self.positions.class_row else 0
        if self.positions.kind == "sincos2d":
            patches = jnp.asarray(sincos2d(layout.grid, x.shape[-1]))
            front = jnp.zeros((layout.front, x.shape[-1]))
        else:
            front, patches = self._learned(layout, with_rows, x.shape[-1])
        absent = jnp.zeros((layout.front - front.shape[0] + layout.registers, x.shape[-1]))
        return x + for_each(jnp.concatenate([front, absent, patches]), x)

    def _learned(self, layout: TokenLayout, with_rows: int, width: int) -> tuple[Array, Array]:
        """Returns the rows of the tokens in front, and those of the patches, resized if need be."""
        grid = self.positions.grid or layout.grid
        rows = with_rows + grid[0] * grid[1]
        if self.has_variable("params", "pos_embedding"):
            rows = self.get_variable("params", "pos_embedding").shape[1]
        table = self.param("pos_embedding", nn.initializers.normal(stddev=0.02), (1, rows, width))
        table = jnp.asarray(table)  # parameters may come as NumPy arrays
        front, patches = table[0, :with_rows], table[0, with_rows:]
        made_for = self.positions.grid
        if made_for is None and rows - with_rows == layout.grid[0] * layout.grid[1]:
            made_for = layout.grid
        if made_for is None:
            made_for = square_grid(rows - with_rows)
        if made_for != layout.grid:
            patches = self._resized(patches, made_for, layout.grid)
        return front, patches

    def _resized(self, patches: Array, old: Grid | None, new: Grid) -> Array:
        if old is None:
            raise ConfigError(
                f"images make a grid of {show(new)} patches, but there are {patches.shape[0]} "
                "position embeddings, which make no square: say which grid they were made for "
                "(positions={'grid': (rows, columns), 'resize': 'bilinear'})"
            )
        if self.positions.resize is None:
            raise ConfigError(
                f"images make a grid of {show(new)} patches, but the position embeddings were "
                f"made for {show(old)}: give images of that size, or let the embeddings be resized "
                "(positions={'resize': 'bilinear'})"
            )
        return resize_grid(patches, old, new, self.positions.resize)
