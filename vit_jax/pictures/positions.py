"""How alike position embeddings are: one map for each patch (the ViT paper's Figure 7, centre)."""

from pathlib import Path

import numpy as np
from flax import linen as nn
from jaxtyping import Float

from vit_jax import trees
from vit_jax.grids import Grid, show, square_grid
from vit_jax.models.posemb import Positions, sincos2d
from vit_jax.models.vit import VisionTransformer
from vit_jax.pictures.figure import CannotDrawError, new_figure, save

_TABLE = "Transformer/posembed_input/pos_embedding"
_MOST = 16  # maps side by side


def position_similarity(
    table: Float[np.ndarray, "n d"], grid: Grid
) -> Float[np.ndarray, "gh gw gh gw"]:
    """Returns the cosine of the angle between the embeddings of each two patches, row by row."""
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    return (unit @ unit.T).reshape(*grid, *grid)


def positions_of(
    model: nn.Module, params: trees.Tree, grid: Grid | None
) -> tuple[Float[np.ndarray, "n d"], Grid]:
    """Returns the position embeddings of the patches, and their grid.

    Args:
      model, params: of any kind.
      grid: of patches that images make; None where it is not known.

    Raises:
      CannotDrawError: the model has none, or their grid is not known.
    """
    if not isinstance(model, VisionTransformer):
        raise CannotDrawError(f"a {type(model).__name__} has no position embeddings")
    positions = Positions.parse(model.positions)
    if positions.kind == "sincos2d" and grid is not None:
        return sincos2d(grid, model.hidden_size), grid
    flat = trees.flatten(params)
    if positions.kind == "none" or _TABLE not in flat:
        raise CannotDrawError("the model has no position embeddings")
    table = np.asarray(flat[_TABLE], np.float32)[0]
    front = sum(name in flat for name in ("cls", "dist")) if positions.class_row else 0
    patches = table[front:]
    fits = grid is not None and grid[0] * grid[1] == len(patches)
    made_for = positions.grid or (grid if fits else square_grid(len(patches)))
    if made_for is None:
        raise CannotDrawError(f"{len(patches)} position embeddings make no known grid")
    return patches, made_for


def draw_positions(table: Float[np.ndarray, "n d"], grid: Grid, path: Path, title: str) -> None:
    """Draws for each patch a map: how alike its embedding is to that of every patch.

    Of a large grid only every second, third … patch has a map.
    """
    similarity = position_similarity(table, grid)
    step = max(-(-side // _MOST) for side in grid)
    shown = similarity[step // 2 :: step, step // 2 :: step]
    rows, columns = shown.shape[:2]
    side = 9.0
    figure = new_figure(side + 1.2, 0.88 * side * (rows * grid[0]) / (columns * grid[1]) + 1, title)
    axes = figure.subplots()
    drawn = axes.imshow(_joined(shown), cmap="viridis", vmin=-1, vmax=1, interpolation="nearest")
    for name, count, size in (("x", columns, grid[1]), ("y", rows, grid[0])):
        middles = [place * (size + _gap(grid)) + size / 2 - 0.5 for place in range(count)]
        getattr(axes, f"set_{name}ticks")(middles, [step // 2 + 1 + step * i for i in range(count)])
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    every = f"; of every {step} rows and columns one is shown" if step > 1 else ""
    axes.set_title(f"each map: cosine similarity to all {show(grid)} patches{every}", fontsize=10)
    figure.colorbar(drawn, ax=axes, fraction=0.046, label="cosine similarity")
    for spine in axes.spines.values():
        spine.set_visible(False)
    save(figure, path)


def _gap(grid: Grid) -> int:
    return max(1, round(max(grid) / 8))


def _joined(maps: Float[np.ndarray, "r c gh gw"]) -> Float[np.ndarray, "h w"]:
    """Lays maps side by side, with empty (NaN) lines between them."""
    gap = _gap(maps.shape[2:])
    padded = np.pad(maps, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    r, c, h, w = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(r * h, c * w)[:-gap, :-gap]
