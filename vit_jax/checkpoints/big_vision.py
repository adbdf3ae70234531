"""The layout of big_vision's npz files: a position table at the root, layers perhaps stacked.

Its ViT adds positions before the class token is put in front, so the table never has a row for it;
without a table they are fixed sines and cosines. `MAPHead_0` pools by attention. With `scan=True`
one array holds a parameter of all layers. Everything else is named as here.
"""

from collections.abc import Collection
from typing import Any

from vit_jax.checkpoints.mapping import Row, Table

NAME = "big_vision"
PREFIXES = ("params/", "opt/target/", "")

_STACKED = "Transformer/encoderblock/"


def prefix_of(names: Collection[str]) -> str | None:
    """Returns what stands before the parameters' names; None if this is no such file."""
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" not in names or f"{prefix}conv_root/kernel" in names:
            continue
        marks = (f"{prefix}pos_embedding", f"{prefix}MAPHead_0/probe")
        stacked = any(name.startswith(prefix + _STACKED) for name in names)
        if stacked or any(mark in names for mark in marks):
            return prefix
        if prefix == "params/" and f"{prefix}Transformer/encoder_norm/scale" in names:
            learned = f"{prefix}Transformer/posembed_input/pos_embedding" in names
            return None if learned else prefix
    return None


def is_stacked(names: Collection[str]) -> bool:
    """Whether one array holds a parameter of all layers."""
    return any(_STACKED in name for name in names)


def table(prefix: str = "params/", *, stacked: bool = False) -> Table:
    """Returns the rows; what has no row of its own has the same name and shape in both."""
    rows = [
        Row(f"{prefix}pos_embedding", ("Transformer/posembed_input/pos_embedding",)),
        Row(f"{prefix}MAPHead_0/{{rest}}", ("pool/{rest}",)),
    ]
    if stacked:
        block = "Transformer/encoderblock_{i}/{rest}"
        rows.append(Row(f"{prefix}{_STACKED}{{rest}}", (block,)))
    rows.append(Row(f"{prefix}{{rest}}", ("{rest}",)))
    return [*rows, Row("{rest}", ())] if prefix else rows


def hints(names: Collection[str]) -> dict[str, Any]:
    """Returns the fields of `create_model` that the shapes do not show."""
    learned = any(name.endswith("pos_embedding") for name in names)
    positions = {"class_row": False} if learned else {"kind": "sincos2d"}
    return {"positions": positions}
