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
_MAP_HEAD = "MAPHead_0"
_ATTENTION = [f"MultiHeadDotProductAttention_0/{part}" for part in ("query", "key", "value", "out")]
_IN_MAP_HEAD = ("LayerNorm_0", "MlpBlock_0/Dense_{j}", *_ATTENTION)
_LAYERS = (
    *("embedding", "pre_logits", "head", "Transformer/encoder_norm"),
    *(
        f"Transformer/encoderblock_{{i}}/{layer}"
        for layer in ("LayerNorm_{j}", "MlpBlock_0/Dense_{j}", *_ATTENTION)
    ),
    *("stem", "pre_head_layer_norm"),  # of a Mixer
    *(f"MixerBlock_{{i}}/{layer}" for layer in ("LayerNorm_{j}", "token_mixing/Dense_{j}")),
    "MixerBlock_{i}/channel_mixing/Dense_{j}",
)


def prefix_of(names: Collection[str]) -> str | None:
    """Returns what stands before the parameters' names; None if this is no such file."""
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" not in names or f"{prefix}conv_root/kernel" in names:
            continue
        marks = (f"{prefix}pos_embedding", f"{prefix}{_MAP_HEAD}/probe")
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
    """Returns the rows for reading; what has no row of its own has the same name in both."""
    rows = [
        Row(f"{prefix}pos_embedding", ("Transformer/posembed_input/pos_embedding",)),
        Row(f"{prefix}{_MAP_HEAD}/{{rest}}", ("pool/{rest}",)),
    ]
    if stacked:
        block = "Transformer/encoderblock_{i}/{rest}"
        rows.append(Row(f"{prefix}{_STACKED}{{rest}}", (block,)))
    rows.append(Row(f"{prefix}{{rest}}", ("{rest}",)))
    return [*rows, Row("{rest}", ())] if prefix else rows


def places() -> Table:
    """Returns the rows for writing: those parameters alone that models of big_vision have."""
    rows = [
        Row("params/pos_embedding", ("Transformer/posembed_input/pos_embedding",)),
        Row("params/cls", ("cls",)),
        Row(f"params/{_MAP_HEAD}/probe", ("pool/probe",)),
    ]
    for ours in (*_LAYERS, *(f"pool/{layer}" for layer in _IN_MAP_HEAD)):
        theirs = ours.replace("pool/", f"{_MAP_HEAD}/")
        rows += [
            Row(f"params/{theirs}/{leaf}", (f"{ours}/{leaf}",))
            for leaf in ("kernel", "bias", "scale")
        ]
    return rows


def hints(names: Collection[str]) -> dict[str, Any]:
    """Returns the fields of `create_model` that the shapes do not show."""
    learned = any(name.endswith("pos_embedding") for name in names)
    positions = {"class_row": False} if learned else {"kind": "sincos2d"}
    return {"positions": positions}
