"""Attention of at most 256 tokens in heads of 64, for NVIDIA Hopper GPUs: a candidate.

A block of the grid has one head of one image, whose queries, keys and values all fit into shared
memory. So a row of weights is in registers whole, the softmax has no running maximum, and one
kernel gives all three gradients without atomics: it goes over the weights twice, by queries and by
keys, and computes them from their logarithms each time.

The arrays stay (b, n, h, c), of any n. What is copied in from beyond the tokens is zeros, and what
would be copied out there is not. Logarithms are those to base 2.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, BFloat16

MOST_TOKENS = 256
WIDTH = 64
TILE = 64  # rows that a warpgroup multiplies at once
Ref = Any  # of memory: the kernel's, or a part of it
_WEIGHTS = plgpu.Layout.WGMMA
_OF_ROWS, _OF_COLUMNS = _WEIGHTS.reduce(1), _WEIGHTS.reduce(0)
_SCALE = WIDTH**-0.5
_LOG_SCALE = _SCALE * math.log2(math.e)


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
      warpgroups: of 128 threads, which share the rows of a head. The more, the fewer registers
        each can have: 255 a thread of one or two, 128 of four.

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
    chip = _Chip(*_arrays(rows, 3), *_numbers(rows, 1), plgpu.Barrier(num_arrivals=3))
    threads = min(warpgroups, rows // TILE)
    call = _kernel(_forward_kernel, query, [query, logs], chip, threads)
    result, logs = call(query, key, value)
    return result, logs


def _with_residuals(query: Array, key: Array, value: Array, warpgroups: int) -> tuple[Array, Any]:
    result, logs = _forward(query, key, value, warpgroups)
    return result, (query, key, value, result, logs)


def _gradients(warpgroups: int, residuals: Any, cotangent: Array) -> tuple[Array, ...]:
    query, key, value, result, logs = residuals
    rows = logs.shape[-1]
    threads = min(warpgroups, rows // TILE)
    q, k, v, o, g = _arrays(rows, 5)
    of_logs, sums = _numbers(rows, 2)
    filled, summed = plgpu.Barrier(num_arrivals=6), plgpu.Barrier(num_arrivals=threads)
    chip = _Chip(q, k, v, of_logs, filled, o, g, sums, summed)
    call = _kernel(_backward_kernel, query, [query] * 3, chip, threads)
    return tuple(call(query, key, value, result, cotangent, logs))


short_attention.defvjp(_with_residuals, _gradients)


def _arrays(rows: int, count: int) -> list[Any]:
    """Rows of a head. Not in tiles: of these, copies want n divisible by 8."""
    swizzled = (plgpu.SwizzleTransform(128),)
    return [plgpu.SMEM((rows, WIDTH), jnp.bfloat16, transforms=swizzled) for _ in range(count)]


def _numbers(rows: int, count: int) -> list[Any]:
    return [plgpu.SMEM((rows,), jnp.float32) for _ in range(count)]


class _Chip(NamedTuple):
    """What a head has in shared memory: all its rows, and barriers that its warpgroups wait at."""

    query: Any
    key: Any
    value: Any
    logs: Any
    filled: Any
    result: Any = None
    cotangent: Any = None
    sums: Any = None
    summed: Any = None


def _kernel(
    body: Callable[..., None], query: Array, results: list[Any], chip: _Chip, threads: int
) -> Callable[..., Any]:
    b, n, h, _ = query.shape
    return plgpu.kernel(
        functools.partial(body, n, threads),
        out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results],
        scratch_types=[chip],
        grid=(b, h),
        grid_names=("image", "head"),
        num_threads=threads,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )


def _forward_kernel(
    n: int, threads: int, query: Ref, key: Ref, value: Ref, result: Ref, logs: Ref, chip: _Chip
) -> None:
    rows = chip.query.shape[0]
    everything = pl.ds(0, rows)
    _copy_in([(query, chip.query), (key, chip.key), (value, chip.value)], chip.filled)
    plgpu.barrier_wait(chip.filled)

    def tile(here: Any) -> None:
        logits = _product(_load(chip.query, here), _transposed(_matrix(chip.key, everything)))
        logits = _without_padding(logits * _LOG_SCALE, n)
        largest = logits.max(axis=1)
        weights = jnp.exp2(logits - _by_row(largest, rows))
        sums = weights.sum(axis=1)
        mixed = _product(weights.astype(jnp.bfloat16), _matrix(chip.value, everything))
        chip.logs.at[here][...] = largest + jnp.log(sums) * math.log2(math.e)
        _copy_out(mixed / _by_row(sums, WIDTH), chip.query, result, here)
        image, head = _head()
        plgpu.copy_smem_to_gmem(chip.logs.at[here], logs.at[image, head, here])

    _each_tile(rows, threads, tile)
    plgpu.wait_smem_to_gmem(0)


def _backward_kernel(n: int, threads: int, *refs: Any) -> None:
    query, key, value, result, cotangent, logs, *gradients, chip = refs
    rows = chip.query.shape[0]
    arrays = [(query, chip.query), (key, chip.key), (value, chip.value)]
    arrays += [(result, chip.result), (cotangent, chip.cotangent)]
    _copy_in(arrays, chip.filled)

    @pl.when(lax.axis_index("warpgroup") == 0)
    def _() -> None:
        image, head = _head()
        plgpu.copy_gmem_to_smem(logs.at[image, head], chip.logs, chip.filled)

    plgpu.barrier_wait(chip.filled)
    _each_tile(rows, threads, functools.partial(_of_queries, n, gradients[0], chip))
    plgpu.barrier_arrive(chip.summed)  # below, each takes the sums of all, and writes over its keys
    plgpu.barrier_wait(chip.summed)
    _each_tile(rows, threads, functools.partial(_of_keys, gradients[1], gradients[2], chip))
    plgpu.wait_smem_to_gmem(0)


def _of_queries(n: int, gradient: Ref, chip: _Chip, here: Any) -> None:
    """The gradient of a tile of queries; leaves the sums over keys of weights times gradients."""
    query, cotangent = _load(chip.query, here), _load(chip.cotangent, here)
    logs = plgpu.layout_cast(chip.logs.at[here][...], _OF_ROWS)
    result = _load(chip.result, here).astype(jnp.float32)
    sums = (result * cotangent.astype(jnp.float32)).sum(axis=1)
    chip.sums.at[here][...] = sums

    def over_keys(total: Any) -> Array:
        for start in range(0, chip.query.shape[0], TILE):
            keys = _matrix(chip.key, pl.ds(start, TILE))
            values = _matrix(chip.value, pl.ds(start, TILE))

            def weigh(logits: Array, past: int = start) -> Array:
                return jnp.exp2(_without_padding(logits, n - past) - _by_row(logs, TILE))

            weights, of_weights = _two_products((query, keys), (cotangent, values), weigh)
            of_logits = weights * (of_weights - _by_row(sums, TILE))
            plgpu.wgmma(total, of_logits.astype(jnp.bfloat16), keys)
        return total[...]

    total = pl.run_scoped(over_keys, plgpu.ACC((TILE, WIDTH)))
    _copy_out(total * _SCALE, chip.result, gradient, here)


def _of_keys(of_key: Ref, of_value: Ref, chip: _Chip, here: Any) -> None:
    """The gradients of a tile of keys and values.

    Queries beyond the tokens are zeros, as their cotangents are: they add nothing. Keys there have
    rows of their own, which are not copied out, even if they are not finite.
    """
    key, value = _load(chip.key, here), _load(chip.value, here)

    def over_queries(key_total: Any, value_total: Any) -> tuple[Array, Array]:
        for start in range(0, chip.query.shape[0], TILE):
            part = pl.ds(start, TILE)
            queries, cotangents = _matrix(chip.query, part), _matrix(chip.cotangent, part)
            logs = plgpu.layout_cast(chip.logs.at[part][...], _OF_COLUMNS)
            sums = plgpu.layout_cast(chip.sums.at[part][...], _OF_COLUMNS)

            def weigh(logits: Array, logs: Array = logs) -> Array:
                return jnp.exp2(logits - _by_column(logs))

            weights, of_weights = _two_products((key, queries), (value, cotangents), weigh)
            of_logits = weights * (of_weights - _by_column(sums))
            plgpu.wgmma(value_total, weights.astype(jnp.bfloat16), cotangents)
            plgpu.wgmma(key_total, of_logits.astype(jnp.bfloat16), queries)
        return key_total[...], value_total[...]

    totals = plgpu.ACC((TILE, WIDTH)), plgpu.ACC((TILE, WIDTH))
    key_total, value_total = pl.run_scoped(over_queries, *totals)
    _copy_out(key_total * _SCALE, chip.key, of_key, here)
    _copy_out(value_total, chip.value, of_value, here)


def _head() -> tuple[Array, Array]:
    return lax.axis_index("image"), lax.axis_index("head")


def _each_tile(rows: int, threads: int, body: Callable[[Any], None]) -> None:
    """Calls the body with the rows of each tile of this warpgroup."""
    first, tiles = lax.axis_index("warpgroup"), rows // TILE

    def step(turn: Array, _: None) -> None:
        body(pl.ds((first + turn * threads) * TILE, TILE))

    turns = lax.div(tiles - first + threads - 1, threads) if tiles % threads else tiles // threads
    lax.fori_loop(0, turns, step, None)


def _copy_in(arrays: list[tuple[Ref, Ref]], filled: Ref) -> None:
    """Starts to copy the rows of this head; beyond the tokens they are zeros."""
    image, head = _head()

    @pl.when(lax.axis_index("warpgroup") == 0)
    def _() -> None:
        for source, target in arrays:
            part = source.at[image, pl.ds(0, target.shape[0]), head]
            plgpu.copy_gmem_to_smem(part, target, filled)


def _copy_out(values: Array, by_way_of: Ref, target: Ref, here: Any) -> None:
    """Starts to copy a tile by way of shared memory; what is beyond the tokens is left out."""
    image, head = _head()
    _matrix(by_way_of, here)[...] = values.astype(jnp.bfloat16)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(by_way_of.at[here], target.at[image, here, head])


def _matrix(ref: Ref, here: Any) -> Any:
    """Rows in tiles of 8, as products want them: the same bytes, in the same order."""
    part = ref.at[here]
    tiles = part.reshape(part.shape[0] // 8, 1, 8, WIDTH)
    return plgpu.transform_ref(tiles, plgpu.TilingTransform((8, WIDTH)).undo(tiles.type))


def _load(ref: Ref, here: Any) -> Array:
    return plgpu.layout_cast(_matrix(ref, here)[...], _WEIGHTS)


def _product(left: Array, right: Any) -> Array:
    def multiply(total: Any) -> Array:
        plgpu.wgmma(total, left, right)
        return total[...]

    return pl.run_scoped(multiply, plgpu.ACC((TILE, right.shape[1])))


def _two_products(
    first: tuple[Array, Any], second: tuple[Array, Any], weigh: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Returns weights, of the logits first · firstᵀ / √c, and second · secondᵀ.

    Both products are on their way at once: while weights are computed, the second goes on.
    """

    def multiply(logits: Any, other: Any) -> tuple[Array, Array]:
        plgpu.wgmma(logits, first[0], _transposed(first[1]))
        plgpu.wgmma(other, second[0], _transposed(second[1]))
        weights = weigh(plgpu.wgmma_accumulator_load(logits, wait_n=1) * _LOG_SCALE)
        return weights, other[...]

    return pl.run_scoped(multiply, plgpu.ACC((TILE, TILE)), plgpu.ACC((TILE, TILE)))


def _transposed(matrix: Any) -> Any:
    return plgpu.transpose_ref(matrix, (1, 0))


def _without_padding(logits: Array, n: int) -> Array:
    """No weight for keys from the n-th on."""
    if n >= logits.shape[1]:
        return logits
    keys = plgpu.broadcasted_iota(jnp.int32, logits.shape, 1, layout=_WEIGHTS)
    return jnp.where(keys < n, logits, -jnp.inf)


def _by_row(numbers: Array, columns: int) -> Array:
    return lax.broadcast_in_dim(numbers, (TILE, columns), [0])


def _by_column(numbers: Array) -> Array:
    return lax.broadcast_in_dim(numbers, (TILE, TILE), [1])
