"""Which fields of `create_model`, given beside a file of weights, say what the file is."""

from collections.abc import Mapping
from typing import Any

Fields = dict[str, Any]

# Fields that say what weights are where their arrays do not: they count for the file as for the
# model that is asked for. All others change the model alone.
_DESCRIBING = ("classifier", "pool", "stem", "stem_fields", "hidden_size")
_DESCRIBING_ENCODER = ("num_heads", "activation", "epsilon")
_DESCRIBING_POSITIONS = ("kind", "grid", "class_row")
# What tells the named architectures apart.
SIZES = (
    "patches",
    "hidden_size",
    "hidden_dim",
    "num_blocks",
    "tokens_mlp_dim",
    "channels_mlp_dim",
)
ENCODER_SIZES = ("num_layers", "num_heads", "mlp_dim")


def describing(fields: Mapping[str, Any]) -> Fields:
    """Returns those of the user's fields that describe the file."""
    if "image" in fields or "text" in fields or "pp" in fields:  # of a LiT model
        said = {name: fields[name] for name in ("text", "pp") if name in fields}
        return {**said, "image": describing(fields.get("image") or {})}
    said = {name: fields[name] for name in _DESCRIBING if name in fields}
    encoder = fields.get("transformer") or {}
    said["transformer"] = {k: encoder[k] for k in _DESCRIBING_ENCODER if k in encoder}
    positions = fields.get("positions", {})
    if isinstance(positions, str):
        positions = {"kind": positions}
    kept = {k: positions[k] for k in _DESCRIBING_POSITIONS if k in positions}
    return {**said, "positions": kept} if kept else said


def changed_sizes(fields: Mapping[str, Any]) -> Fields:
    """Returns those of the user's fields by which the file is of another size than its name says.

    The size of patches is none of them: patches of another size are made of the file's.
    """
    encoder = fields.get("transformer") or {}
    said = {name: fields[name] for name in SIZES[1:] if name in fields}
    changed = {name: encoder[name] for name in ENCODER_SIZES if name in encoder}
    return {**said, "transformer": changed} if changed else said
