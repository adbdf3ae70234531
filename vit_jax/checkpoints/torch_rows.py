"""What the layouts of timm and transformers share: PyTorch's linear layers, norms and heads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.mapping import Row
from vit_jax.checkpoints.transforms import LINEAR, Transform
from vit_jax.errors import CheckpointError

# Widths whose heads are not 64 wide; both codebases build them with 16 heads.
_SIXTEEN_HEADS = (1152, 1280, 1408, 1536, 1664)
_HEAD_WIDTH = 64


def linear(theirs: str, ours: str, transform: Transform = LINEAR) -> list[Row]:
    """Rows of a linear layer or convolution with a bias."""
    return [
        Row(f"{theirs}.weight", (f"{ours}/kernel",), transform),
        Row(f"{theirs}.bias", (f"{ours}/bias",)),
    ]


def norm(theirs: str, ours: str) -> list[Row]:
    """Rows of a LayerNorm or GroupNorm."""
    return [
        Row(f"{theirs}.weight", (f"{ours}/scale",)),
        Row(f"{theirs}.bias", (f"{ours}/bias",)),
    ]


def head_count(width: int, given: Any, where: str) -> int:
    """Returns the heads of a model of that width, which its arrays do not show.

    Args:
      width: of a token.
      given: the number that the user or a config names; None for neither.
      where: the file, to begin an error with.

    Raises:
      CheckpointError: nobody names it, and the width tells nothing; or it does not divide.
    """
    if given is None and width in _SIXTEEN_HEADS:
        given = 16
    if given is None and width % _HEAD_WIDTH == 0:
        given = width // _HEAD_WIDTH
    if given is None or width % given:
        raise CheckpointError(
            f"{where}: the arrays of this format do not show the number of heads; {given} does not "
            f"fit a width of {width}: say transformer={{'num_heads': …}}"
        )
    return given


def asked_heads(hints: Mapping[str, Any]) -> int | None:
    """Returns the number of heads that fields of `create_model` name; None if they do not."""
    return (hints.get("transformer") or {}).get("num_heads")


def check_head_width(fields: Mapping[str, Any], where: str) -> None:
    """Raises `CheckpointError` for heads of a width of their own.

    Both codebases divide the width of a token among the heads. Where the queries have another
    width, heads were pruned, and whatever tells a number of heads tells that of before.
    """
    encoder = fields.get("transformer") or {}
    attention = encoder.get("attention") or {}
    if not isinstance(attention, str) and (width := attention.get("head_width")):
        raise CheckpointError(
            f"{where}: its queries are {encoder['num_heads'] * width} wide and its tokens "
            f"{fields['hidden_size']}: heads were pruned, and how many are left does not show; "
            "use the weights before pruning, or an 'official' file of these"
        )


def fold_position(
    arrays: Mapping[str, np.ndarray], token: str, table: str, rows: slice
) -> dict[str, np.ndarray]:
    """Adds rows of a position table to the tokens that they belong to, and takes them out of it.

    The model then adds nothing to these tokens; in float32, its input is the same bit for bit.
    """
    folded = dict(arrays)
    folded[token] = arrays[token].astype(np.float32) + arrays[table][:, rows].astype(np.float32)
    folded[table] = np.delete(arrays[table], np.r_[rows], axis=1)
    return folded
