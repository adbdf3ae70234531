"""Tiles of 64 rows and their products, for kernels of one head of an image on a Hopper GPU.

A product has its left factor, of 64 rows, in the registers of a warpgroup, and its right factor in
shared memory. In the layout of its sums a thread has parts of rows, which can be the left factor of
the next product as they are.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

TILE = 64  # rows that a warpgroup multiplies at once
WIDTH = 64  # of a head: rows of 128 bytes, as long as a line that is swizzled
SCALE = WIDTH**-0.5
LOG_SCALE = SCALE * math.log2(math.e)  # logarithms are those to base 2
Ref = Any  # of memory, or a part of it
_LAYOUT = plgpu.Layout.WGMMA


def array(rows: int) -> Ref:
    """Shared memory for rows. Not in tiles: of these, copies want n divisible by 8."""
    return plgpu.SMEM((rows, WIDTH), jnp.bfloat16, transforms=(plgpu.SwizzleTransform(128),))


def numbers(rows: int) -> Ref:
    """Shared memory for a number of each row."""
    return plgpu.SMEM((rows,), jnp.float32)


def accumulator(columns: int) -> Ref:
    """Registers for the sums of a product: half as many of each thread as there are columns."""
    return plgpu.WGMMAAccumulatorRef((TILE, columns))


def of_head(array: Ref, here: Any) -> Ref:
    """Rows of the head that this block has, of an array (b, n, h, c)."""
    return array.at[lax.axis_index("image"), here, lax.axis_index("head")]


def numbers_of_head(array: Ref, here: Any) -> Ref:
    """The same of an array (b, h, rows)."""
    return array.at[lax.axis_index("image"), lax.axis_index("head"), here]


def whole_head(array: Ref, rows: int) -> Ref:
    """So many rows of the head, from the first; an array (b, n, h, c) may have fewer."""
    # JAX 0.12 refuses rows beyond an array where it knows the first: this 0 only the GPU knows.
    return of_head(array, pl.ds(lax.axis_index("image") * 0, rows))


def each_tile(rows: int, threads: int, body: Callable[[Any], None]) -> None:
    """Calls the body with the place of each tile that this warpgroup has."""
    first, tiles = lax.axis_index("warpgroup"), rows // TILE

    def step(turn: Array, _: None) -> None:
        body(pl.ds((first + turn * threads) * TILE, TILE))

    turns = lax.div(tiles - first + threads - 1, threads) if tiles % threads else tiles // threads
    lax.fori_loop(0, turns, step, None)


def copy_in(parts: list[tuple[Ref, Ref]], filled: Ref) -> None:
    """Copies into shared memory, rows beyond the tokens as zeros, and waits for all."""

    @pl.when(lax.axis_index("warpgroup") == 0)
    def _() -> None:
        for source, target in parts:
            plgpu.copy_gmem_to_smem(source, target, filled)

    plgpu.barrier_wait(filled)


def copy_out(values: Array, by_way_of: Ref, target: Ref, here: Any) -> None:
    """Starts to copy a tile, but for rows beyond the tokens, by way of shared memory."""
    matrix(by_way_of, here)[...] = values.astype(jnp.bfloat16)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(by_way_of.at[here], of_head(target, here))


def matrix(ref: Ref, here: Any) -> Ref:
    """Rows in tiles of 8, as products want them: the same bytes, in the same order."""
    part = ref.at[here]
    tiles = part.reshape(part.shape[0] // 8, 1, 8, WIDTH)
    untiled = plgpu.TilingTransform((8, WIDTH)).undo(tiles.type)
    # What transform_ref() did in JAX 0.10; 0.11 has no function for it.
    return dataclasses.replace(tiles, transforms=(*tiles.transforms, untiled))


def load(ref: Ref, here: Any) -> Array:
    """A tile as left factor."""
    return plgpu.layout_cast(matrix(ref, here)[...], _LAYOUT)


def product(left: Array, right: Ref) -> Array:
    """Returns left · right, in float32."""

    def multiply(total: Any) -> Array:
        plgpu.wgmma(total, left, right)
        return total[...]

    return pl.run_scoped(multiply, accumulator(right.shape[1]))


def two_products(
    first: tuple[Array, Ref], second: tuple[Array, Ref], weigh: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Returns weights, of the logits first · firstᵀ / √c, and second · secondᵀ.

    Both are on their way at once: while weights are computed, the second goes on, and what was
    added to other sums before is done.
    """

    def multiply(logits: Any, other: Any) -> tuple[Array, Array]:
        plgpu.wgmma(logits, first[0], transposed(first[1]))
        plgpu.wgmma(other, second[0], transposed(second[1]))
        weights = weigh(plgpu.wgmma_accumulator_load(logits, wait_n=1) * LOG_SCALE)
        return weights, other[...]

    return pl.run_scoped(multiply, accumulator(TILE), accumulator(TILE))


def transposed(matrix: Ref) -> Ref:
    """The same bytes, read by columns."""
    return matrix.T


def without_padding(logits: Array, n: int) -> Array:
    """No weight for keys from the n-th on."""
    if n >= logits.shape[1]:
        return logits
    keys = plgpu.broadcasted_iota(jnp.int32, logits.shape, 1, layout=_LAYOUT)
    return jnp.where(keys < n, logits, -jnp.inf)


def by_row(numbers: Array, columns: int) -> Array:
    """A number for each row, so many times."""
    return lax.broadcast_in_dim(numbers, (TILE, columns), [0])


def by_column(numbers: Array) -> Array:
    """A number for each column of a square."""
    return lax.broadcast_in_dim(numbers, (TILE, TILE), [1])
