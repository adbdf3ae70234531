"""The most that the devices do: products of large matrices, measured."""

import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from vit_jax.benchmark.timing import repetitions
from vit_jax.mesh import AXES, replicated

CHAIN = 4  # products in one call, so that calling it takes no time beside them
# Sides of the matrices; the best of them counts.
SIDES = {"cpu": (1024, 2048)}
_ACCELERATOR_SIDES = (4096, 8192)


def matmul_peak(mesh: Mesh, dtype: jnp.dtype, seconds: float) -> float:
    """Returns FLOP/s of all devices together at matrix products of a dtype: the fastest call.

    Every device multiplies matrices of its own, all at the same time; for each size this takes
    `seconds`, or three calls.
    """
    sides = SIDES.get(jax.default_backend(), _ACCELERATOR_SIDES)
    return max(_rate(mesh, dtype, side, seconds / len(sides)) for side in sides)


def _rate(mesh: Mesh, dtype: jnp.dtype, side: int, seconds: float) -> float:
    rows = NamedSharding(mesh, PartitionSpec(AXES))

    def operands() -> tuple[Array, Array]:
        a, b = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes))
        return a.astype(dtype), (b / side**0.5).astype(dtype)  # so that products stay of one size

    def products(a: Array, b: Array) -> Array:
        for _ in range(CHAIN):
            a = a @ b
        return a

    shapes = ((mesh.size * side, side), (side, side))
    a, b = jax.jit(operands, out_shardings=(rows, replicated(mesh)))()
    call = jax.jit(products, out_shardings=rows)
    jax.block_until_ready(call(a, b))
    times = []
    for _ in repetitions(seconds):
        start = time.perf_counter()
        jax.block_until_ready(call(a, b))
        times.append(time.perf_counter() - start)
    return 2 * CHAIN * mesh.size * side**3 / min(times)
