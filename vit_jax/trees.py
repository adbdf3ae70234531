"""Trees of arrays seen as flat mappings from path to leaf.

A path joins the keys from the root with "/", as in "Transformer/encoderblock_0/LayerNorm_0/scale".
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

Tree = Any  # any nesting of dicts, tuples and registered dataclasses


def path_string(path: tuple[Any, ...]) -> str:
    """Joins a JAX key path with "/"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree: Tree) -> dict[str, Any]:
    """Returns {path: leaf} for any tree, in JAX's order of leaves."""
    return {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict with these paths and leaves: `flatten` undone, for dicts."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def map_with_path(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Applies `function(path, leaf, *leaves_of_rest)` to every leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(path_string(path), *leaves), tree, *rest
    )


def shapes(tree: Tree) -> Tree:
    """Returns the tree with shape, dtype and sharding in the place of each array.

    Without its sharding, another program than that of the array itself would be compiled.
    """
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def count(tree: Tree) -> int:
    """Returns the number of scalars in all leaves (arrays or shapes)."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree_util.tree_leaves(tree))


def nbytes(tree: Tree) -> int:
    """Returns the bytes that all leaves (arrays or shapes with a dtype) take."""
    return sum(
        int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree_util.tree_leaves(tree)
    )


def difference(left: Tree, right: Tree) -> list[str]:
    """Lists the paths at which two trees differ in presence, shape, dtype or any bit.

    Each entry is "+ path" (only in right), "- path" (only in left) or "! path: why". NaNs with the
    same bits are equal, and 0.0 differs from -0.0.
    """
    a, b = flatten(left), flatten(right)
    lines = [f"- {path}" for path in a if path not in b]
    lines += [f"+ {path}" for path in b if path not in a]
    for path in a.keys() & b.keys():
        x, y = np.asarray(jax.device_get(a[path])), np.asarray(jax.device_get(b[path]))
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            lines.append(f"! {path}: {x.dtype}{x.shape} against {y.dtype}{y.shape}")
        elif x.tobytes() != y.tobytes():
            lines.append(f"! {path}: values differ")
    return sorted(lines)


def digest(tree: Tree) -> str:
    """Returns the SHA-256 of all paths, shapes, dtypes and bytes, the same for equal trees."""
    sha = hashlib.sha256()
    for path, leaf in sorted(flatten(tree).items()):
        array = np.asarray(jax.device_get(leaf))
        sha.update(f"{path}|{array.dtype}|{array.shape}|".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
