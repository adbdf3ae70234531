"""The layout of the published .npz files, and of our own parameters written as npz.

The files were written before flax numbered modules by class: a block's parts are `LayerNorm_0`,
`MultiHeadDotProductAttention_1`, `LayerNorm_2` and `MlpBlock_3`, and GroupNorms have arrays of four
dimensions. Files written later have our names. Either may lie below a prefix, beside the state of
an optimiser. (The official `checkpoint.load`, with `flax.training.checkpoints.convert_pre_linen`
and its fix of GroupNorms, reads both kinds.) The position table has a row for the class token.
"""

from collections.abc import Collection

from vit_jax.checkpoints.mapping import Row, Table
from vit_jax.checkpoints.transforms import FOUR_D

NAME = "official"
PREFIXES = ("optimizer/target/", "opt/target/", "params/", "")

_BLOCK = "Transformer/encoderblock_{i}"
# (number in the published files, ours)
_RENUMBERED = (
    ("LayerNorm_2", "LayerNorm_1"),
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("MlpBlock_3", "MlpBlock_0"),
)
_GROUP_NORMS = (
    "gn_root",
    *(f"block{{i}}/unit{{j}}/{name}" for name in ("gn1", "gn2", "gn3", "gn_proj")),
)


def prefix_of(names: Collection[str]) -> str | None:
    """Returns what stands before the parameters' names; None if this is no such file."""
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" in names or f"{prefix}stem/kernel" in names:
            return prefix
        if any(name.startswith(f"{prefix}stem/conv_") for name in names):
            return prefix
    return None


def is_published(names: Collection[str]) -> bool:
    """Whether modules have the older numbers; files without any blocks are read either way."""
    return not any("/encoderblock_" in name and "/LayerNorm_1/" in name for name in names)


def table(prefix: str = "", *, published: bool = True) -> Table:
    """Returns the rows; what has no row of its own has the same name and shape in both."""
    rows = []
    if published:
        rows += [
            Row(f"{prefix}{_BLOCK}/{old}/{{rest}}", (f"{_BLOCK}/{new}/{{rest}}",))
            for old, new in _RENUMBERED
        ]
    rows += [
        Row(f"{prefix}{path}/{leaf}", (f"{path}/{leaf}",), FOUR_D)
        for path in _GROUP_NORMS
        for leaf in ("scale", "bias")
    ]
    rows.append(Row(f"{prefix}{{rest}}", ("{rest}",)))
    if prefix:  # whatever lies beside the parameters: steps, moments, random keys
        rows.append(Row("{rest}", ()))
    return rows
