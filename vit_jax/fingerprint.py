"""A short digest of a state of arrays, computed where the arrays lie.

Every element is hashed with its place in its array, the hashes are added as 32-bit integers, and
the sums of all arrays are hashed and added again. Integers add up to the same in any order, so the
digest depends on paths, shapes, types and bits alone: not on the mesh, the number of processes or
how a compiler splits a sum. It tells two runs apart; it is no guard against someone who forges one.
"""

import functools
import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, UInt32

from vit_jax import trees

_GOLDEN = np.uint32(0x9E3779B1)  # 2^32 over the golden ratio: neighbours lie far apart
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}  # by bytes of an element


def fingerprint(tree: trees.Tree, placed: Sharding | None = None) -> UInt32[Array, ""]:
    """Returns the digest of all leaves of a tree of arrays, without waiting for it on accelerators.

    Leaves of one shape share one small program: a single program of all leaves takes XLA minutes to
    compile for the 800 leaves of a ViT-B/16 with AdamW and a running average, on a CPU.

    Args:
      tree: of one array or more, on the host or on devices.
      placed: where the digest shall lie; None leaves that to JAX.
    """
    hashed, added = _programs(placed)
    hashes = []
    for path, leaf in trees.flatten(tree).items():
        hashes.append(hashed(leaf, _salt(path, leaf)))
        if _share_threads(hashes[-1]):
            jax.block_until_ready(hashes[-1])
    return added(hashes)


def _share_threads(array: jax.Array) -> bool:
    """Whether an array is of several CPU devices, whose programs must come one after the other.

    They share as many threads as there are devices. Where a program waits in all of them but one
    for a sum over the devices, and another has taken that one, XLA ends the process after 40 s.
    """
    sharding = getattr(array, "sharding", None)  # which an array has not while it is traced
    several = sharding is not None and len(sharding.device_set) > 1
    return several and jax.default_backend() == "cpu"


def as_text(digest: int) -> str:
    """Returns a digest as it is written: eight hexadecimal digits."""
    return f"{digest:08x}"


@functools.cache
def _programs(placed: Sharding | None) -> tuple[Callable, Callable]:
    """Returns the program of one leaf, compiled once for each shape, and that of their sum."""
    return jax.jit(_hashed, out_shardings=placed), jax.jit(_added, out_shardings=placed)


def _added(hashes: list[jax.Array]) -> jax.Array:
    return jnp.stack(hashes).sum(dtype=jnp.uint32)


def _salt(path: str, leaf: jax.Array | np.ndarray | np.generic) -> np.uint32:
    """Returns what tells leaves of the same bits apart."""
    return np.uint32(zlib.crc32(f"{path}|{leaf.dtype}|{leaf.shape}".encode()))


def _hashed(leaf: jax.Array, salt: jax.Array) -> jax.Array:
    bits = _bits(leaf)
    hashes = _mixed((bits ^ salt) + _places(bits.shape) * _GOLDEN)
    return _mixed(hashes.sum(dtype=jnp.uint32) ^ salt)


def _bits(leaf: jax.Array) -> jax.Array:
    """Returns the bits of an array as uint32; an element of 8 bytes becomes two."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = _UNSIGNED[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _places(shape: tuple[int, ...]) -> jax.Array:
    """Returns the place of each element in row-major order, modulo 2^32."""
    places = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = jnp.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        places += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return places


def _mixed(x: jax.Array) -> jax.Array:
    """The end of MurmurHash3 (Appleby, public domain): a bit changed flips half of all bits."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
