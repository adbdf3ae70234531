"""The architecture that parameters belong to, read off their names and shapes alone.

What shapes cannot tell (activation, epsilon, which of two readings of a position table holds) comes
from the format or from the user, as hints.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.errors import CheckpointError
from vit_jax.grids import Grid, show, square_grid

Shapes = Mapping[str, tuple[int, ...]]  # {our path: shape}
Fields = dict[str, Any]  # fields of `create_model`

IMAGE = "img/"  # before the names of a LiT model's image tower
_POSITIONS = "Transformer/posembed_input/pos_embedding"
_ATTENTION = "MultiHeadDotProductAttention_0"
# Dimensions of the arrays that sizes are read off.
_DIMENSIONS = (
    (re.compile(r"(embedding|stem|conv_root)/kernel"), 4),
    (re.compile(rf"Transformer/encoderblock_\d+/{_ATTENTION}/query/kernel"), 3),
    (re.compile(rf"registers|{_POSITIONS}"), 3),
    (re.compile(r"(head|pre_logits|.*/(Dense_0|proj_in))/kernel"), 2),
)


class _Checked(dict[str, tuple[int, ...]]):
    """Shapes in which whatever the architecture is read off is there, and of its dimensions."""

    def __init__(self, shapes: Shapes, where: str):
        super().__init__(shapes)
        self._where = where
        for path, shape in shapes.items():
            for pattern, count in _DIMENSIONS:
                if pattern.fullmatch(path) and len(shape) != count:
                    raise CheckpointError(
                        f"{where}: {path} has shape {shape}, where {count} dimensions are due; "
                        "the file is damaged, or no model of this kind"
                    )

    def __missing__(self, path: str) -> tuple[int, ...]:
        raise CheckpointError(
            f"{self._where}: has no {path} (in the names used here), which its architecture is "
            "read off; the file is incomplete"
        )


def fields_of(shapes: Shapes, hints: Mapping[str, Any], where: str) -> Fields:
    """Returns the fields of the model that has these parameters, `num_classes` among them.

    Args:
      shapes: all of its parameters.
      hints: fields that are known already, nested as in `create_model`; they win.
      where: the file, to begin an error with.

    Raises:
      CheckpointError: no known architecture, or an array that it is read off is missing or has
        another number of dimensions.
    """
    shapes = _Checked(shapes, where)
    is_mixer = any(path.startswith("MixerBlock_") for path in shapes)
    if not is_mixer and "embedding/kernel" not in shapes and "stem" not in hints:
        what = "a stem of convolutions" if _any(shapes, "stem/") else "no patch embedding"
        raise CheckpointError(
            f"{where}: has {what}, so its architecture cannot be told from the arrays; name it: "
            "model_name=… (vit_jax models lists the names)"
        )
    if is_mixer:  # which has no encoder that hints could speak of
        others = {name: value for name, value in hints.items() if name != "transformer"}
        return merged(_mixer(shapes), without_grid(others))
    return merged(_transformer(shapes, hints), hints)


def merged(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> Fields:
    """Returns `fields` with `changes`, mappings merged into mappings; an empty one leaves None."""
    result = dict(fields)
    for name, value in changes.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merged(old, value)
        elif name in result and old is None and value == {}:
            continue
        result[name] = value
    return result


def without_grid(fields: Mapping[str, Any]) -> Fields:
    """Returns a Mixer's fields without `positions.grid`, which says what a file of one is made for.

    A Mixer itself has no field `positions`: its MLPs over tokens see no rows and columns.
    """
    positions = fields.get("positions")
    if not isinstance(positions, Mapping) or not {*positions} <= {"grid"}:
        return dict(fields)
    return {name: value for name, value in fields.items() if name != "positions"}


def grid_of(
    shapes: Shapes, fields: Mapping[str, Any], where: str, images: Grid | None = None
) -> Grid | None:
    """Returns (rows, columns) of the patches that the parameters were made for; None for any.

    Args:
      shapes: of the parameters.
      fields: of their model; those of a Mixer may have `positions.grid` beside.
      where: the file, to begin an error with.
      images: the grid that images make, where that is known. It is the one where nothing names
        another and it has as many patches, as in the model itself; else a square is.

    Raises:
      CheckpointError: patches that do not make the grid that is named, or no square.
    """
    if "MixerBlock_0/token_mixing/Dense_0/kernel" in shapes:
        rows = shapes["MixerBlock_0/token_mixing/Dense_0/kernel"][0]
    elif _POSITIONS in shapes:
        rows = shapes[_POSITIONS][1] - rows_in_front(shapes, fields)
    else:
        return None
    positions = fields.get("positions", {})
    if isinstance(positions, Mapping) and positions.get("grid") is not None:
        rows_given, columns = positions["grid"]
        if rows_given * columns != rows:
            raise CheckpointError(
                f"{where}: has positions for {rows} patches, which make no grid of "
                f"{show((rows_given, columns))}"
            )
        return (rows_given, columns)
    if images is not None and images[0] * images[1] == rows:
        return images
    if (square := square_grid(rows)) is None:
        raise CheckpointError(
            f"{where}: has positions for {rows} patches, which make no square; say which grid "
            "they were made for: positions={'grid': (rows, columns)}"
        )
    return square


def rows_in_front(shapes: Shapes, fields: Mapping[str, Any]) -> int:
    """Returns how many rows of the position table belong to tokens in front of the patches."""
    positions = fields.get("positions", {})
    class_row = positions.get("class_row", True) if isinstance(positions, Mapping) else True
    return ("cls" in shapes) + ("dist" in shapes) if class_row else 0


def image_tower(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns those fields that describe the model of images: a LiT's tower, or all."""
    return fields["image"] if "text_model" in fields else fields


def image_parameters(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the parameters of the model of images, by the names that they have in one alone."""
    inside = {
        path.removeprefix(IMAGE): shape for path, shape in shapes.items() if path.startswith(IMAGE)
    }
    return inside or dict(shapes)


def pixels_of_patch(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the image pixels, (height, width), that one token stands for."""
    height, width = fields["patches"]["size"]
    scale = 1
    if fields.get("resnet"):
        scale = 4 * 2 ** max(len(fields["resnet"]["num_layers"]) - 1, 0)
    return height * scale, width * scale


def patches_of(fields: Mapping[str, Any], size: Any) -> Grid | None:
    """Returns the grid of patches that images of (height, width) make.

    None for images of no known size, or of one that is nonsense, which a `Preprocess` tells better;
    and behind a stem, whose convolutions are not known here.
    """
    fields, size = image_tower(fields), [side for side in size or () if isinstance(side, int)]
    if len(size) != 2 or fields.get("stem") or not fields.get("patches"):
        return None
    patch, pixels = fields["patches"]["size"], pixels_of_patch(fields)
    scale = pixels[0] // patch[0]  # of a ResNet, whose strides round up
    return -(-size[0] // scale) // patch[0], -(-size[1] // scale) // patch[1]


def _mixer(shapes: Shapes) -> Fields:
    kernel, tokens = shapes["stem/kernel"], shapes["MixerBlock_0/token_mixing/Dense_0/kernel"]
    return {
        "num_classes": _classes(shapes),
        "patches": {"size": kernel[:2]},
        "hidden_dim": kernel[-1],
        "num_blocks": count_of(shapes, r"MixerBlock_(\d+)/"),
        "tokens_mlp_dim": tokens[-1],
        "channels_mlp_dim": shapes["MixerBlock_0/channel_mixing/Dense_0/kernel"][-1],
    }


def _transformer(shapes: Shapes, hints: Mapping[str, Any]) -> Fields:
    fields: Fields = {"num_classes": _classes(shapes)}
    if "embedding/kernel" in shapes:
        kernel = shapes["embedding/kernel"]
        fields |= {"patches": {"size": kernel[:2]}, "hidden_size": kernel[-1]}
    if "conv_root/kernel" in shapes:
        fields["resnet"] = _resnet(shapes)
    fields["transformer"] = _encoder(shapes)
    if "pre_logits/kernel" in shapes:
        fields["representation_size"] = shapes["pre_logits/kernel"][-1]
    fields["classifier"] = "token" if "cls" in shapes else "gap"
    if pool := _pool(shapes):
        fields["pool"] = pool
    if "pool_norm/scale" in shapes:
        fields["pool_norm"] = True
    if "registers" in shapes:
        fields["num_registers"] = shapes["registers"][1]
    if _POSITIONS not in shapes:
        fields["positions"] = {"kind": "none"}
    elif class_row := _class_row(shapes, hints):
        fields["positions"] = class_row
    return fields


def _encoder(shapes: Shapes) -> Fields | None:
    """Fields of the encoder; None if there is none. Dropout is off."""
    layers = count_of(shapes, r"Transformer/encoderblock_(\d+)/")
    block = "Transformer/encoderblock_0"
    if not layers:
        return None
    queries = [
        shapes[f"Transformer/encoderblock_{i}/{_ATTENTION}/query/kernel"] for i in range(layers)
    ]
    heads = tuple(query[1] for query in queries)
    gated = f"{block}/MlpBlock_0/proj_in/kernel" in shapes
    mlp = "proj_in" if gated else "Dense_0"
    fields: Fields = {
        "num_layers": layers,
        "num_heads": heads[0] if len(set(heads)) == 1 else heads,
        "mlp_dim": shapes[f"{block}/MlpBlock_0/{mlp}/kernel"][-1],
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
    }
    attention: Fields = {}
    head_widths = {query[2] for query in queries}
    if len(head_widths) == 1 and any(count * own != width for width, count, own in queries):
        attention["head_width"] = head_widths.pop()
    if f"{block}/{_ATTENTION}/query_ln/scale" in shapes:
        attention["qk_norm"] = True
    if f"{block}/{_ATTENTION}/query/bias" not in shapes:
        attention["qkv_bias"] = False
    if gated:
        fields["mlp"] = "gated"
    if f"{block}/layer_scale_0" in shapes:
        fields["layer_scale"] = 1e-5
    return {**fields, "attention": attention} if attention else fields


def _resnet(shapes: Shapes) -> Fields:
    stages = count_of(shapes, r"block(\d+)/unit", first=1)
    units = tuple(count_of(shapes, rf"block{s + 1}/unit(\d+)/", first=1) for s in range(stages))
    factor = shapes["conv_root/kernel"][-1] / 64
    return {"num_layers": units, "width_factor": int(factor) if factor % 1 == 0 else factor}


def _pool(shapes: Shapes) -> str | None:
    for path, pool in (
        ("pool/probe", "attention"),
        ("pool/attention_pool/kernel", "sequence"),
        ("dist", "distilled"),
    ):
        if path in shapes:
            return pool
    return None


def _class_row(shapes: Shapes, hints: Mapping[str, Any]) -> Fields:
    """Whether the position table has rows for the tokens in front; hints that say so win.

    No square is one or two more than another, so for a square grid the count leaves no doubt.
    """
    rows, front = shapes[_POSITIONS][1], ("cls" in shapes) + ("dist" in shapes)
    positions = hints.get("positions")
    grid = positions.get("grid") if isinstance(positions, Mapping) else None
    if grid is not None:
        without = rows == grid[0] * grid[1]
    else:
        without = square_grid(rows) is not None and square_grid(rows - front) is None
    return {"class_row": False} if front and without else {}


def _classes(shapes: Shapes) -> int | None:
    return shapes["head/kernel"][-1] if "head/kernel" in shapes else None


def _any(paths: Iterable[str], start: str) -> bool:
    return any(path.startswith(start) for path in paths)


def count_of(paths: Iterable[str], pattern: str, first: int = 0) -> int:
    """Returns how many consecutive numbers, from `first`, the pattern finds."""
    found = {int(match[1]) for path in paths if (match := re.match(pattern, path))}
    count = 0
    while first + count in found:
        count += 1
    return count
