"""Blends of the examples of a batch, on the device: mixup and CutMix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from vit_jax.data.augmentation import Augmentation

Images = Float[Array, "b h w c"]
Targets = Float[Array, "b k"]


def mix(
    key: Key[Array, ""], settings: Augmentation, images: Images, targets: Targets
) -> tuple[Images, Targets]:
    """Mixes a batch as the settings say.

    Where mixup and CutMix are both on, the batch takes one of them as a whole: CutMix with
    probability `settings.cutmix_share` (timm's `switch_prob`, in its mode for batches).
    """
    if not settings.cutmix:
        return mixup(key, settings.mixup, images, targets) if settings.mixup else (images, targets)
    if not settings.mixup:
        return cutmix(key, settings.cutmix, images, targets)
    return jax.lax.cond(
        jax.random.bernoulli(jax.random.fold_in(key, 0), settings.cutmix_share),
        lambda: cutmix(key, settings.cutmix, images, targets),
        lambda: mixup(key, settings.mixup, images, targets),
    )


def mixup(
    key: Key[Array, ""], alpha: float, images: Images, targets: Targets
) -> tuple[Images, Targets]:
    """Blends each example with its neighbour in the batch, images and targets alike.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018: one weight from
    Beta(alpha, alpha) for the batch.
    """
    weight = jax.random.beta(key, alpha, alpha)
    return (
        weight * images + (1 - weight) * _neighbours(images),
        weight * targets + (1 - weight) * _neighbours(targets),
    )


def cutmix(
    key: Key[Array, ""], alpha: float, images: Images, targets: Targets
) -> tuple[Images, Targets]:
    """Pastes a box of each example's neighbour into it; targets are shared by area.

    Yun et al., "CutMix", 2019 (arXiv:1905.04899): the area comes from Beta(alpha, alpha), the
    centre lies anywhere, one box for the batch. What sticks out of the image is cut off, and the
    neighbour's share of the target is the area that is left, to the pixel.
    """
    area_key, row_key, column_key = jax.random.split(jax.random.fold_in(key, 1), 3)
    side = jnp.sqrt(1 - jax.random.beta(area_key, alpha, alpha))
    rows, columns = (
        _span(key, side, length)
        for key, length in zip((row_key, column_key), images.shape[1:3], strict=True)
    )
    pasted = rows[:, None] & columns[None]
    share = pasted.mean()
    mixed = jnp.where(pasted[None, :, :, None], _neighbours(images), images)
    return mixed, (1 - share) * targets + share * _neighbours(targets)


def _neighbours(x: Float[Array, "b *rest"]) -> Float[Array, "b *rest"]:
    return jnp.roll(x, 1, axis=0)


def _span(key: Key[Array, ""], share: Float[Array, ""], length: int) -> Bool[Array, "n"]:
    """Returns which of `length` places a span covers: `share` of them about a random centre."""
    places = jnp.arange(length)
    size = (share * length).astype(jnp.int32)
    start = jax.random.randint(key, (), 0, length) - size // 2
    return (places >= start) & (places < start + size)
