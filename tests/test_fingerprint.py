"""The digest of a state: every bit counts, and nothing but the bits."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax.fingerprint import as_text, fingerprint
from vit_jax.mesh import make_mesh

TREE = {
    "a": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8),
    "b": {"count": np.int32(7), "momentum": np.arange(16).astype(ml_dtypes.bfloat16)},
}


def digest(tree):
    return int(fingerprint(tree))


def changed(path, index, value):
    leaf = np.array(TREE["b"][path] if path in TREE["b"] else TREE[path])
    leaf[index] = value
    return {**TREE, path: leaf} if path in TREE else {**TREE, "b": {**TREE["b"], path: leaf}}


@pytest.mark.parametrize(
    "other",
    [
        changed("a", (3, 3), np.nextafter(TREE["a"][3, 3], np.float32(2))),
        changed("momentum", 0, -0.0),
        changed("count", (), 8),
        {**TREE, "a": TREE["a"].T},
        {**TREE, "a": TREE["a"].reshape(64)},
        {**TREE, "a": TREE["a"].view(np.int32)},
        {"c": TREE["a"], "b": TREE["b"]},
        {**TREE, "a": TREE["a"][::-1]},
    ],
    ids=["one bit", "sign of zero", "count", "order", "shape", "dtype", "path", "rows"],
)
def test_whatever_differs_changes_it(other):
    assert digest(TREE) == digest(jax.tree.map(np.copy, TREE))
    assert digest(other) != digest(TREE)


@pytest.mark.parametrize(
    "spec", [PartitionSpec(), PartitionSpec(("data", "fsdp")), PartitionSpec("data", "tensor")]
)
def test_it_does_not_depend_on_the_devices(spec):
    mesh = make_mesh(2, 2, 2)
    split = {**TREE, "a": jax.device_put(TREE["a"], NamedSharding(mesh, spec))}
    assert digest(split) == digest(TREE)


def test_the_digests_of_released_checkpoints_stay():
    assert as_text(digest(TREE)) == "ad5b93b6"


def test_flips_of_any_single_bit_are_told_apart():
    """Of 2,049 random numbers of 32 bits two would be alike once in 2,000 trials."""
    words = np.zeros(64, np.uint32)
    flips = [words.copy() for _ in range(2048)]
    for number, one in enumerate(flips):
        one[number // 32] ^= np.uint32(1) << np.uint32(number % 32)
    found = jax.jit(jax.vmap(lambda x: fingerprint({"x": x})))(jnp.asarray(np.stack(flips)))
    assert len({int(x) for x in found} | {digest({"x": words})}) == 2049


def test_a_digest_is_written_in_eight_digits():
    assert as_text(10) == "0000000a"
