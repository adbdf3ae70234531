"""How well images and texts of a batch find each other: the losses that image-text models learn by.

Every image is compared with every text of the global batch, whichever device holds it. Vectors are
gathered over the mesh; the matrix of all comparisons never is: each device makes a few of its rows
at a time, and makes them again for the gradient, which is exact.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from vit_jax.errors import ConfigError
from vit_jax.mesh import BATCH_AXES

LOSSES = ("softmax", "sigmoid")
_ABSENT = -1e30  # the logit of a pair that is not there: finite, as its gradient must be
_BYTES = 4  # of a logit, float32


class Compared(NamedTuple):
    """What comparing a batch gives.

    Attributes:
      loss: in nats, for each pair that is there.
      accuracy: share of the images to which no text of the batch is nearer than their own.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]


Compare = Callable[..., Compared]


class _Side(NamedTuple):
    """Vectors to be compared with those of the other side, and which of those is their own."""

    vectors: Float[Array, "b d"]
    mask: Float[Array, "b"]
    own: Int[Array, "b"]


def make_compare(mesh: Mesh | AbstractMesh, loss: str, logits_bytes: int) -> Compare:
    """Returns `compare(images, texts, scale, bias, mask)`, to be traced (`jit`).

    Its arguments are vectors (b, d) of length 1, row i of both a pair; two scalars, as a logit is
    scale x <image, text> + bias; and a mask (b,), 0 for pairs that count neither as pairs nor as
    what others are compared with.

    'softmax' is the mean of the cross-entropies of finding the text among all and of finding the
    image among all (Radford et al. 2021, arXiv:2103.00020, figure 3; Zhai et al. 2022, "LiT",
    arXiv:2111.07991); `bias` does nothing to it. 'sigmoid' asks of each pair, by itself, whether it
    is one (Zhai et al. 2023, arXiv:2303.15343, equation 1): the sum over all texts, as there, for
    each image.

    Args:
      mesh: `data` and `fsdp` split the batch.
      loss: one of `LOSSES`.
      logits_bytes: the most that the logits on a device may take at any time.

    Raises:
      ConfigError: when traced, if not even one image's logits may be held.
    """
    batch, whole = PartitionSpec(BATCH_AXES), PartitionSpec()
    local = functools.partial(_compared, block=_BLOCKS[loss], logits_bytes=logits_bytes)
    return jax.shard_map(
        local, mesh=mesh, in_specs=(batch, batch, whole, whole, batch), out_specs=whole
    )


def _compared(
    images: Float[Array, "b d"],
    texts: Float[Array, "b d"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    mask: Float[Array, "b"],
    *,
    block: "_Block",
    logits_bytes: int,
) -> Compared:
    """Compares the rows of this device with those of all."""
    images, texts = (x.astype(jnp.float32) for x in (images, texts))
    gather = functools.partial(jax.lax.all_gather, axis_name=BATCH_AXES, tiled=True)
    everyone = gather(mask)
    own = jax.lax.axis_index(BATCH_AXES) * len(mask) + jnp.arange(len(mask))
    sums = functools.partial(_summed, bias=bias, everyone=everyone, limit=logits_bytes)
    lost, right = sums(block, _Side(images, mask, own), scale * gather(texts))
    if block is _softmax_block:
        back, _ = sums(block, _Side(texts, mask, own), scale * gather(images))
        lost = (lost + back) / 2
    lost, right, there = jax.lax.psum((lost, right, mask.sum()), BATCH_AXES)
    there = jnp.maximum(there, 1.0)
    return Compared(lost / there, right / there)


def _summed(
    block: "_Block",
    side: _Side,
    others: Float[Array, "n d"],
    *,
    bias: Float[Array, ""],
    everyone: Float[Array, "n"],
    limit: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the losses and the hits of one side, added up over blocks of its rows."""
    count, rows = len(side.mask), rows_at_once(len(side.mask), len(everyone), limit)
    blocks = -(-count // rows)
    padded = jax.tree.map(lambda x: _padded(x, blocks * rows), side)
    parts = jax.tree.map(lambda x: x.reshape(blocks, rows, *x.shape[1:]), padded)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(part: _Side, others: Array, bias: Array) -> tuple[Array, Array]:
        logits = jnp.matmul(part.vectors, others.T, precision=jax.lax.Precision.HIGHEST) + bias
        logits = jnp.where(everyone[None] > 0, logits, _ABSENT)
        lost, right = block(logits, part.own)
        return (lost * part.mask).sum(), (right * part.mask).sum()

    def add(sums: tuple[Array, Array], part: _Side) -> tuple[tuple[Array, Array], None]:
        lost, right = one(part, others, bias)
        return (sums[0] + lost, sums[1] + right), None

    zero = 0.0 * side.mask.sum()  # of this device, as the sums are
    return jax.lax.scan(add, (zero, zero), parts)[0]


def rows_at_once(count: int, others: int, limit: int) -> int:
    """Returns how many of `count` rows of logits are made at a time, in blocks of about one size.

    Raises:
      ConfigError: one row takes more than `limit` bytes.
    """
    most = limit // (_BYTES * others)
    if most < 1:
        raise ConfigError(
            f"config.logits_bytes={limit}: an image's logits with the {others} texts of a batch "
            f"take {_BYTES * others} bytes; must be at least that, or make config.batch smaller"
        )
    blocks = -(-count // most)
    return -(-count // blocks)


def _padded(x: Array, count: int) -> Array:
    """Returns an array with zeros behind its rows; where they are masks, these rows are absent."""
    return jnp.pad(x, ((0, count - len(x)), *((0, 0) for _ in x.shape[1:])))


def _softmax_block(
    logits: Float[Array, "r n"], own: Int[Array, "r"]
) -> tuple[Float[Array, "r"], Float[Array, "r"]]:
    """Returns the cross-entropy of each row, and whether its own logit is the largest."""
    mine = jnp.take_along_axis(logits, own[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - mine, (mine >= logits.max(1)).astype(jnp.float32)


def _sigmoid_block(
    logits: Float[Array, "r n"], own: Int[Array, "r"]
) -> tuple[Float[Array, "r"], Float[Array, "r"]]:
    """Returns each row's sum of binary cross-entropies, and whether its own logit is the largest.

    That of an absent pair is 0: no pair, and the surest no.
    """
    mine = jnp.take_along_axis(logits, own[:, None], axis=1)[:, 0]
    signs = jnp.where(jnp.arange(logits.shape[1])[None] == own[:, None], 1.0, -1.0)
    lost = jax.nn.softplus(-signs * logits).sum(1)
    return lost, (mine >= logits.max(1)).astype(jnp.float32)


_Block = Callable[[Array, Array], tuple[Array, Array]]
_BLOCKS: dict[str, _Block] = {"softmax": _softmax_block, "sigmoid": _sigmoid_block}
