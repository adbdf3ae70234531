"""The first layer's filters, as small colour images (the ViT paper's Figure 7, left)."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from vit_jax import trees
from vit_jax.pictures.figure import CannotDrawError, grid_of_axes, new_figure, save, show_image

_COMPONENTS = 28  # as in the paper
_FILTERS = 64
# The first layer by the path of its kernel: patches are embedded linearly, images else convolved.
_EMBEDDINGS = ("embedding/kernel", "stem/kernel")
_CONVOLUTIONS = ("conv_root/kernel", "stem/conv_0/kernel")


def principal_components(
    kernel: Float[np.ndarray, "h w 3 d"], count: int
) -> tuple[Float[np.ndarray, "m h w 3"], Float[np.ndarray, "m"]]:
    """Returns the first principal components of d filters, and the variance each one explains."""
    filters = kernel.reshape(-1, kernel.shape[-1]).T.astype(np.float64)
    _, values, vectors = np.linalg.svd(filters - filters.mean(0), full_matrices=False)
    shares = values**2 / max(float((values**2).sum()), 1e-30)
    components = vectors[:count].reshape(-1, *kernel.shape[:3])
    return components, shares[:count]


def draw_filters(params: trees.Tree, path: Path, title: str) -> None:
    """Draws principal components of the patch embedding, or the filters of a first convolution.

    Raises:
      CannotDrawError: the first layer sees no colours.
    """
    flat = trees.flatten(params)
    convolution = next((name for name in _CONVOLUTIONS if name in flat), None)
    name = convolution or next((name for name in _EMBEDDINGS if name in flat), None)
    if name is None or flat[name].shape[2] != 3:
        raise CannotDrawError("the first layer has no filters of three colours")
    kernel = np.asarray(flat[name], np.float32)
    if convolution:
        tiles = np.moveaxis(kernel, -1, 0)[:_FILTERS]
        captions = [""] * len(tiles)
        what = f"{len(tiles)} of the {kernel.shape[-1]} filters of the first convolution"
    else:
        tiles, shares = principal_components(kernel, _COMPONENTS)
        captions = [f"{100 * share:.1f} %" for share in shares]
        what = f"the first {len(tiles)} principal components of the patch embedding,"
        what += "\nand the share of the variance that each explains"
    columns = 8 if convolution else 7
    rows = -(-len(tiles) // columns)
    figure = new_figure(1.15 * columns, 1.3 * rows + 1.0, f"{title}\n{what}")
    axes = grid_of_axes(figure, len(tiles), columns)
    for place, tile, caption in zip(axes, tiles, captions, strict=True):
        show_image(place, _coloured(tile))
        place.set_xlabel(caption, fontsize=8)
    save(figure, path)


def _coloured(tile: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Returns colours from 0 to 1; where a filter is 0 there is grey."""
    return 0.5 + 0.5 * tile / max(float(np.abs(tile).max()), 1e-12)
