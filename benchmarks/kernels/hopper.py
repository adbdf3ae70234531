"""Attention of at most 256 tokens in heads of 64, for NVIDIA Hopper GPUs: a candidate.

A block of the grid has one head of one image, whose queries, keys and values all fit into shared
memory. So a row of weights is in registers whole, the softmax has no running maximum, and one
kernel gives all three gradients without atomics: it goes over the weights twice, by queries and by
keys, and computes them each time.

The arrays stay (b, n, h, c), of any n: what is copied in from beyond the tokens is zeros, and what
would be copied out there is not. Tested in the interpretation of JAX 0.10 alone; 0.11 and 0.12
lower it too. No card has run it yet.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, BFloat16

from kernels import tiles
from kernels.tiles import TILE, WIDTH, Ref

MOST_TOKENS = 256  # whose arrays and weights a block can hold
_OF_ROWS, _OF_COLUMNS = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def short_attention(
    query: BFloat16[Array, "b n h c"],
    key: BFloat16[Array, "b n h c"],
    value: BFloat16[Array, "b n h c"],
    warpgroups: int = 2,
) -> BFloat16[Array, "b n h c"]:
    """Returns softmax(query · key / √c) · value; the softmax and all sums are float32.

    Args:
      query, key, value: of at most 256 tokens n, and heads of c = 64.
      warpgroups: of 128 threads, which share the rows of a head. With more than two a thread
        cannot have the registers that it needs, and memory takes their place.

    Raises:
      ValueError: another number of tokens, width or dtype, or arrays that are not alike.
    """
    return _forward(query, key, value, warpgroups)[0]


def _forward(query: Array, key: Array, value: Array, warpgroups: int) -> tuple[Array, Array]:
    """Returns the result, and logarithms (b, h, rows) of the sums that the weights are over."""
    b, n, h, width = query.shape
    if not 0 < n <= MOST_TOKENS or width != WIDTH:
        raise ValueError(f"{n} tokens, heads of {width}: must be 1 to {MOST_TOKENS}, and {WIDTH}")
    for array in (query, key, value):
        if array.shape != query.shape or array.dtype != jnp.bfloat16:
            raise ValueError(f"{array.dtype}{array.shape}: must be bfloat16{query.shape}")
    rows = TILE * pl.cdiv(n, TILE)
    logs = jax.ShapeDtypeStruct((b, h, rows), jnp.float32)
    threads = min(warpgroups, rows // TILE)
    chip = _chip(rows, arrivals=3)
    result, logs = _kernel(_forward_kernel, query, [query, logs], chip, threads)(query, key, value)
    return result, logs


def _with_residuals(query: Array, key: Array, value: Array, warpgroups: int) -> tuple[Array, Any]:
    result, logs = _forward(query, key, value, warpgroups)
    return result, (query, key, value, result, logs)


def _gradients(warpgroups: int, residuals: Any, cotangent: Array) -> tuple[Array, ...]:
    query, key, value, result, logs = residuals
    rows = logs.shape[-1]
    threads = min(warpgroups, rows // TILE)
    chip = _chip(rows, arrivals=6)._replace(
        result=tiles.array(rows),
        cotangent=tiles.array(rows),
        sums=tiles.numbers(rows),
        summed=plgpu.Barrier(num_arrivals=threads),
    )
    call = _kernel(_backward_kernel, query, [query] * 3, chip, threads)
    return tuple(call(query, key, value, result, cotangent, logs))


short_attention.defvjp(_with_residuals, _gradients)


class _Chip(NamedTuple):
    """What a block has in shared memory: the rows of a head, and what its warpgroups wait for.

    Attributes:
      query, key, value, result, cotangent: (rows, 64); what is computed goes out by way of them.
      logs: of the sums that the weights of a query are over.
      sums: for each query, those over the keys of weights times their gradients.
      filled: all is copied in.
      summed: all sums are there, and nobody reads the keys and values of another any more.
    """

    query: Ref
    key: Ref
    value: Ref
    logs: Ref
    filled: Ref
    result: Ref = None
    cotangent: Ref = None
    sums: Ref = None
    summed: Ref = None


def _chip(rows: int, arrivals: int) -> _Chip:
    """Returns what both kernels have, with the number of copies to wait for."""
    query, key, value = (tiles.array(rows) for _ in range(3))
    filled = plgpu.Barrier(num_arrivals=arrivals)
    return _Chip(query, key, value, tiles.numbers(rows), filled)


def _kernel(
    body: Callable[..., None], query: Array, results: list[Any], chip: _Chip, threads: int
) -> Callable[..., Any]:
    """Returns what runs a block for every head of every image."""
    b, n, h, _ = query.shape
    return plgpu.kernel(
        functools.partial(body, n, threads),
        out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results],
        scratch_types=[chip],
        grid=(b, h),
        grid_names=("image", "head"),
        num_threads=threads,
        thread_name="warpgroup",
        # Since JAX 0.11 the default chooses the tiles of shared memory itself, and refuses ours.
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane
        ),
    )


def _forward_kernel(
    n: int, threads: int, query: Ref, key: Ref, value: Ref, result: Ref, logs: Ref, chip: _Chip
) -> None:
    rows = chip.query.shape[0]
    every = pl.ds(0, rows)
    arrays = (query, chip.query), (key, chip.key), (value, chip.value)
    tiles.copy_in([(tiles.whole_head(x, rows), to) for x, to in arrays], chip.filled)

    def tile(here: Any) -> None:
        keys, values = tiles.matrix(chip.key, every), tiles.matrix(chip.value, every)
        logits = tiles.product(tiles.load(chip.query, here), tiles.transposed(keys))
        logits = tiles.without_padding(logits, n)
        largest = logits.max(axis=1) * tiles.LOG_SCALE
        weights = jnp.exp2(logits * tiles.LOG_SCALE - tiles.by_row(largest, rows))
        sums = weights.sum(axis=1)
        mixed = tiles.product(weights.astype(jnp.bfloat16), values)
        chip.logs.at[here][...] = largest + jnp.log(sums) * math.log2(math.e)
        tiles.copy_out(mixed / tiles.by_row(sums, WIDTH), chip.query, result, here)
        plgpu.copy_smem_to_gmem(chip.logs.at[here], tiles.numbers_of_head(logs, here))

    tiles.each_tile(rows, threads, tile)
    plgpu.wait_smem_to_gmem(0)


def _backward_kernel(n: int, threads: int, *refs: Any) -> None:
    query, key, value, result, cotangent, logs, *gradients, chip = refs
    rows = chip.query.shape[0]
    every = pl.ds(0, rows)
    arrays = [(query, chip.query), (key, chip.key), (value, chip.value)]
    arrays += [(result, chip.result), (cotangent, chip.cotangent)]
    parts = [(tiles.whole_head(x, rows), to) for x, to in arrays]
    tiles.copy_in([*parts, (tiles.numbers_of_head(logs, every), chip.logs)], chip.filled)
    tiles.each_tile(rows, threads, functools.partial(_of_queries, n, gradients[0], chip))
    # From here on each takes the sums of all, and writes over its own keys and values.
    plgpu.barrier_arrive(chip.summed)
    plgpu.barrier_wait(chip.summed)
    tiles.each_tile(rows, threads, functools.partial(_of_keys, gradients[1], gradients[2], chip))
    plgpu.wait_smem_to_gmem(0)


def _of_queries(n: int, gradient: Ref, chip: _Chip, here: Any) -> None:
    """The gradient of a tile of queries; leaves the sums over keys of weights times gradients."""
    query, cotangent = tiles.load(chip.query, here), tiles.load(chip.cotangent, here)
    logs = plgpu.layout_cast(chip.logs.at[here][...], _OF_ROWS)
    result = tiles.load(chip.result, here).astype(jnp.float32)
    sums = (result * cotangent.astype(jnp.float32)).sum(axis=1)
    chip.sums.at[here][...] = sums

    def over_keys(total: Any) -> Array:
        for start in range(0, chip.query.shape[0], TILE):
            keys = tiles.matrix(chip.key, pl.ds(start, TILE))
            values = tiles.matrix(chip.value, pl.ds(start, TILE))

            def weigh(logits: Array, past: int = start) -> Array:
                return jnp.exp2(tiles.without_padding(logits, n - past) - tiles.by_row(logs, TILE))

            weights, of_weights = tiles.two_products((query, keys), (cotangent, values), weigh)
            of_logits = weights * (of_weights - tiles.by_row(sums, TILE))
            plgpu.wgmma(total, of_logits.astype(jnp.bfloat16), keys)
        return total[...]

    total = pl.run_scoped(over_keys, tiles.accumulator(WIDTH))
    tiles.copy_out(total * tiles.SCALE, chip.result, gradient, here)


def _of_keys(of_key: Ref, of_value: Ref, chip: _Chip, here: Any) -> None:
    """The gradients of a tile of keys and values.

    Queries beyond the tokens are zeros, as their cotangents are: they add nothing. Keys there have
    rows of their own, which are not copied out, even if they are not finite.
    """
    key, value = tiles.load(chip.key, here), tiles.load(chip.value, here)

    def over_queries(key_total: Any, value_total: Any) -> tuple[Array, Array]:
        for start in range(0, chip.query.shape[0], TILE):
            part = pl.ds(start, TILE)
            queries, cotangents = tiles.matrix(chip.query, part), tiles.matrix(chip.cotangent, part)
            logs = plgpu.layout_cast(chip.logs.at[part][...], _OF_COLUMNS)
            sums = plgpu.layout_cast(chip.sums.at[part][...], _OF_COLUMNS)

            def weigh(logits: Array, logs: Array = logs) -> Array:
                return jnp.exp2(logits - tiles.by_column(logs))

            weights, of_weights = tiles.two_products((key, queries), (value, cotangents), weigh)
            of_logits = weights * (of_weights - tiles.by_column(sums))
            plgpu.wgmma(value_total, weights.astype(jnp.bfloat16), cotangents)
            plgpu.wgmma(key_total, of_logits.astype(jnp.bfloat16), queries)
        return key_total[...], value_total[...]

    totals = tiles.accumulator(WIDTH), tiles.accumulator(WIDTH)
    key_total, value_total = pl.run_scoped(over_queries, *totals)
    tiles.copy_out(key_total * tiles.SCALE, chip.key, of_key, here)
    tiles.copy_out(value_total, chip.value, of_value, here)
