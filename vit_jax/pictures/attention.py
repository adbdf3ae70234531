"""What attention looks at: maps of the class token, attention rollout, distances by depth."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from vit_jax import trees
from vit_jax.data.preprocess import Preprocess
from vit_jax.models.pooling import CLASSIFIERS, POOLS
from vit_jax.models.vit import VisionTransformer
from vit_jax.pictures.figure import CannotDrawError, new_figure, save, show_image

_LAYERS_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Looked:
    """What the attention of a model does on a few images.

    Attributes:
      images: as the model sees them, before normalisation.
      distances: for each layer, of each head the mean attention distance, in pixels; NaN for a
        head that looks at no patch.
      class_maps: for each layer what the class token attends to, the mean of its heads; None
        where there is no class token.
      head_maps: the same for each head; pruned layers have fewer.
      rollout: what the image's vector is made of, through all layers.
      reads: what that vector is, in words.
    """

    images: UInt8[np.ndarray, "b h w 3"]
    distances: tuple[Float[np.ndarray, "_"], ...]
    class_maps: Float[np.ndarray, "layers b gh gw"] | None
    head_maps: tuple[Float[np.ndarray, "b _ gh gw"], ...] | None
    rollout: Float[np.ndarray, "b gh gw"] | None
    reads: str


def attention_rollout(attention: Sequence[Float[Array, "b _ n n"]]) -> Float[Array, "b n n"]:
    """Returns how much each token after the last layer is made of each one before the first.

    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers" (arXiv:2005.00928), eq. 1:
    the product over the layers of half the attention, heads averaged, and half the identity, which
    is the residual. Rows sum to 1.
    """
    b, _, n, _ = attention[0].shape
    flow = jnp.broadcast_to(jnp.eye(n), (b, n, n))
    for weights in attention:
        flow = (weights.mean(1) + jnp.eye(n)[None]) / 2 @ flow
    return flow


def attention_distances(
    weights: Float[Array, "b h n n"], grid: tuple[int, int], patch: tuple[float, float]
) -> Float[Array, "h"]:
    """Returns how far each head looks, on average over images and patches, in pixels.

    The distance from a patch to those it attends to, weighted by the attention (Dosovitskiy et al.
    2021, section D.7). Tokens that are no patches, which have no place, are left out of both; so is
    a patch that attends to them alone: what is left for the patches may underflow to 0. A head in
    which all patches do has no distance, NaN.

    Args:
      weights: of one layer; the last tokens are the patches, row by row.
      grid: rows and columns of patches.
      patch: height and width of a patch, in pixels.
    """
    y, x = np.mgrid[: grid[0], : grid[1]].reshape(2, -1)
    places = np.stack([y * patch[0], x * patch[1]], axis=1).astype(np.float32)
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    among = weights[:, :, -len(places) :, -len(places) :].astype(jnp.float32)
    total = among.sum(-1)
    looks = total > jnp.finfo(jnp.float32).tiny
    distances = (among * apart[None, None]).sum(-1) / jnp.where(looks, total, 1.0)
    return distances.mean((0, 2), where=looks)


Look = Callable[[trees.Tree, UInt8[np.ndarray, "b h w 3"]], Looked]


def look(
    model: nn.Module,
    variables: trees.Tree,
    preprocess: Preprocess,
    images: UInt8[np.ndarray, "b h w 3"],
) -> Looked:
    """Returns what a model's attention does on images of the size it takes.

    Raises:
      CannotDrawError: it has no attention.
    """
    return looker(model, preprocess)(variables, images)


def looker(model: nn.Module, preprocess: Preprocess) -> Look:
    """Returns `look` for one model, compiled once for each size of batch.

    Raises:
      CannotDrawError: it has no attention.
    """
    layers = _layers(model)
    assert isinstance(model, VisionTransformer)
    pool = model.pool or CLASSIFIERS[model.classifier][0]
    has_class = (POOLS[model.pool] if model.pool else CLASSIFIERS[model.classifier])[1]

    @jax.jit
    def seen(variables: trees.Tree, images: jax.Array) -> dict[str, Any]:
        (_, found), kept = model.apply(
            variables,
            preprocess.normalize(images),
            train=False,
            outputs=("attention", "patch_features"),
            capture_intermediates=lambda layer, _: layer.name == "attention_pool",
            mutable=["intermediates"],
        )
        grid = found["patch_features"].shape[1:3]
        attention = [found["attention"][layer] for layer in range(layers)]
        patch = tuple(side / n for side, n in zip(images.shape[1:3], grid, strict=True))
        shape, count = (len(images), *grid), grid[0] * grid[1]
        reader = _reader(pool, attention[0], count, kept)
        made: dict[str, Any] = {
            "distances": [attention_distances(one, grid, patch) for one in attention]
        }
        if has_class:
            first = [one.mean(1)[:, 0, -count:] for one in attention]
            made["class_maps"] = jnp.stack([one.reshape(shape) for one in first])
            of_heads = [one[:, :, 0, -count:] for one in attention]
            made["head_maps"] = tuple(one.reshape(*one.shape[:2], *grid) for one in of_heads)
        if reader is not None:
            flow = (reader[:, None] @ attention_rollout(attention))[:, 0, -count:]
            made["rollout"] = flow.reshape(shape)
        return made

    def one(variables: trees.Tree, images: UInt8[np.ndarray, "b h w 3"]) -> Looked:
        found = jax.device_get(seen(variables, jnp.asarray(images)))
        return Looked(
            images,
            tuple(found["distances"]),
            found.get("class_maps"),
            found.get("head_maps"),
            found.get("rollout"),
            _READS.get(pool, "the class token" if has_class else "nothing"),
        )

    return one


_READS = {
    "token": "the class token",
    "distilled": "the class token",
    "mean": "the mean of the tokens",
    "sequence": "the weighted mean of the tokens (sequence pooling)",
}


def _layers(model: Any) -> int:
    if not isinstance(model, VisionTransformer):
        raise CannotDrawError(f"a {type(model).__name__} has no attention")
    if model.transformer is None or not model.transformer["num_layers"]:
        raise CannotDrawError("the model has no Transformer")
    return model.transformer["num_layers"]


def _reader(
    pool: str, attention: Float[Array, "b h n n"], patches: int, kept: Any
) -> Float[Array, "b n"] | None:
    """Returns how much of each token is in what the head reads; None where nobody tells."""
    b, _, n, _ = attention.shape
    if pool == "mean":
        weights = jnp.concatenate([jnp.zeros(n - patches), jnp.ones(patches) / patches])
        return jnp.broadcast_to(weights, (b, n))
    if pool == "sequence":
        (scores,) = kept["intermediates"]["pool"]["attention_pool"]["__call__"]
        weights = jax.nn.softmax(scores[..., 0].astype(jnp.float32), axis=1)
        return jnp.pad(weights, ((0, 0), (n - weights.shape[1], 0)))
    if pool in ("token", "distilled"):
        return jnp.broadcast_to(jax.nn.one_hot(0, n), (b, n))
    return None  # an attention pool keeps its weights to itself


def draw_attention(looked: Looked, path: Path, title: str) -> None:
    """Draws, for each image, maps of the class token at a few depths and the attention rollout.

    Raises:
      CannotDrawError: the model has neither.
    """
    columns = _columns(looked)
    if not columns:
        raise CannotDrawError("the model has no class token, and its pooling keeps no weights")
    count = len(looked.images)
    height, width = looked.images.shape[1:3]
    figure = new_figure(
        2.1 * (len(columns) + 1),
        0.9 + (2.1 * height / width + 0.05) * count,
        f"{title}\neach map: its least weight dark, its largest bright",
    )
    axes = figure.subplots(count, len(columns) + 1, squeeze=False)
    extent = (0, width, height, 0)
    for row in range(count):
        show_image(axes[row, 0], looked.images[row], extent=extent)
        for place, (_, maps, over) in enumerate(columns, 1):
            shown = laid_over(looked.images[row], maps[row]) if over else maps[row]
            show_image(axes[row, place], shown, extent=extent, cmap="viridis")
    for place, name in enumerate(["image", *(name for name, *_ in columns)]):
        axes[0, place].set_title(name, fontsize=10)
    save(figure, path)


def _columns(looked: Looked) -> list[tuple[str, np.ndarray, bool]]:
    """Returns (heading, maps, whether they are laid over the image)."""
    columns = []
    if looked.class_maps is not None:
        depth = len(looked.class_maps)
        chosen = np.unique(np.linspace(0, depth - 1, _LAYERS_SHOWN).round().astype(int))
        columns = [(f"layer {i + 1} of {depth}", looked.class_maps[i], False) for i in chosen]
    if looked.rollout is not None:
        columns += [("rollout", looked.rollout, False), ("image × rollout", looked.rollout, True)]
    return columns


def laid_over(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the image, darkened where the map is small, as the ViT paper's Figure 6 is."""
    size = (image.shape[0], image.shape[1])
    smooth = np.asarray(jax.image.resize(jnp.asarray(weights), size, "bilinear"))
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-12)
    return (image * (0.1 + 0.9 * smooth[..., None])).astype(np.uint8)


def draw_distances(looked: Looked, path: Path, title: str) -> None:
    """Draws the mean attention distance of each head over the depth (the ViT paper's Figure 7).

    Raises:
      CannotDrawError: no head has one.
    """
    layers = [one[~np.isnan(one)] for one in looked.distances]
    if not any(map(len, layers)):
        raise CannotDrawError("no head attends to patches")
    figure = new_figure(8, 5, title)
    axes = figure.subplots()
    for layer, distances in enumerate(layers, 1):
        label = "a head" if layer == 1 else None
        at = np.full(len(distances), layer)
        axes.plot(at, distances, "o", color="tab:blue", alpha=0.7, label=label)
    means = [float(one.mean()) if len(one) else np.nan for one in layers]
    axes.plot(range(1, len(means) + 1), means, color="tab:orange", label="mean of the layer")
    axes.set(xlabel="layer", ylabel="mean attention distance (pixels)")
    axes.set_ylim(0, 1.08 * float(np.concatenate(layers).max()) or 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
