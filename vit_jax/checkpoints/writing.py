"""Weights out: the files of each format, so that its library opens them and we do again."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.checkpoints import (
    architecture,
    big_vision,
    mapping,
    official,
    timm,
    transformers,
)
from vit_jax.checkpoints.arrays import write_npz, write_safetensors
from vit_jax.checkpoints.atomic import replacing
from vit_jax.checkpoints.config_files import CONFIG, CONFIGS, OURS, PROCESSOR
from vit_jax.checkpoints.kinds import check_format
from vit_jax.checkpoints.mapping import Table
from vit_jax.checkpoints.npz import MAX_NOTES, bytes_of_notes
from vit_jax.checkpoints.timm_config import EPSILON, timm_config
from vit_jax.checkpoints.transformers_config import (
    prefix,
    preprocessor_config,
    transformers_config,
)
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.grids import Grid

logger = logging.getLogger("vit_jax")

Fields = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

_NPZ = (official.NAME, big_vision.NAME)
_NOT_OF_WEIGHTS = ("dtype", "model_name")  # fields that say nothing about the parameters


def file_of(target: str | Path, to: str) -> Path:
    """Returns the file of weights that a target means: itself, by its ending, or one in a folder.

    Raises:
      ConfigError: an unknown format, or a file of another kind.
    """
    check_format(to)
    target, ending = Path(target).expanduser(), ".npz" if to in _NPZ else ".safetensors"
    if target.suffix in (".npz", ".safetensors") and target.suffix != ending:
        raise ConfigError(f"{target}: the {to} format is {ending}; name such a file, or a folder")
    return target if target.suffix == ending else target / f"model{ending}"


def encode(arrays: Arrays, to: str, fields: Fields) -> dict[str, np.ndarray]:
    """Returns {their name: array} of a format for {our path: array}.

    Raises:
      CheckpointError: a model that the format has no place for.
    """
    if to == big_vision.NAME:
        _check_big_vision(fields, arrays)
    return mapping.write(_table(to, fields), arrays, to)


def configs(
    to: str,
    fields: Fields,
    size: tuple[int, int],
    preprocess: Fields,
    class_names: Sequence[str] | None,
    grid: Grid | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns {file name: content} of the JSON files that lie beside the weights.

    Args:
      to: a name of `kinds.FORMATS`.
      fields: of `create_model`.
      size: (height, width) of the images, in pixels.
      preprocess: fields of a `Preprocess`.
      class_names: None where there are none.
      grid: (rows, columns) of patches that the positions were made for; None for any.
    """
    ours: dict[str, Any] = {"preprocess": dict(preprocess)}  # to the last detail
    named = _grid_named(fields, size, grid)
    if to == timm.NAME:
        ours["fields"] = {"transformer": {"epsilon": _epsilon(fields)}, **named}
        config = timm_config(fields, size, preprocess, class_names)
        return {CONFIG: {**config, OURS: ours}}
    if to == transformers.NAME:
        config = transformers_config(fields, size, class_names)
        processor = preprocessor_config(preprocess)
        ours |= {"fields": named} if named else {}
        return {CONFIG: {**config, OURS: ours}, PROCESSOR: processor}
    kept = {name: value for name, value in fields.items() if name not in _NOT_OF_WEIGHTS}
    kept = architecture.merged(kept, named)
    names = None if class_names is None else list(class_names)
    return {CONFIG: {OURS: {**ours, "fields": _as_json(kept), "class_names": names}}}


def write_weights(
    target: str | Path,
    to: str,
    arrays: Arrays,
    fields: Fields,
    beside: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Writes weights in a format, each file whole or not at all.

    Args:
      target: a file that ends in .npz or .safetensors, for the weights alone; or a folder, for all.
      to: a name of `kinds.FORMATS`.
      arrays: {our path: array}.
      fields: of `create_model`.
      beside: the JSON files of `configs`. A file that stands alone has them inside.

    Returns:
      The file of weights.

    Raises:
      ConfigError: an unknown format, or a target of another kind.
      CheckpointError: a model that the format has no place for.
    """
    if to == timm.NAME and _epsilon(fields) != EPSILON:
        logger.warning(
            "timm builds every LayerNorm with epsilon %g, and this model has %g: its logits there "
            "will differ a little",
            EPSILON,
            _epsilon(fields),
        )
    target, file = Path(target).expanduser(), file_of(target, to)
    alone = file == target
    theirs = encode(arrays, to, fields)
    file.parent.mkdir(parents=True, exist_ok=True)
    if to in _NPZ:
        write_npz(file, theirs, _fitting(beside, file) if alone else None)
    else:
        inside = _as_notes(beside) if alone else {}
        write_safetensors(file, theirs, {"format": "pt", **inside})
    if not alone:
        for name, content in beside.items():
            write_text(target / name, json_text(content))
        for name in {*CONFIGS} - {*beside}:  # of the format that was here before
            (target / name).unlink(missing_ok=True)
    return file


def _as_notes(beside: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(content) for name, content in beside.items()}


def _fitting(beside: Mapping[str, Mapping[str, Any]], file: Path) -> dict[str, str]:
    """The configs as notes for an npz, without class names where these are too long for one."""
    notes = _as_notes(beside)
    if len(bytes_of_notes(notes)) <= MAX_NOTES:
        return notes
    logger.warning(
        "%s: the names of the classes are too long for an npz that stands alone (%d bytes at "
        "most), and are left out; name a folder to keep them",
        file,
        MAX_NOTES,
    )
    nameless = {
        name: {**content, OURS: {**content[OURS], "class_names": None}}
        for name, content in beside.items()
    }
    return _as_notes(nameless)


def json_text(content: Any) -> str:
    """Returns JSON as the files beside weights have it."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes a small text file, whole or not at all.

    Half a surrogate pair, as the name of a file that is not UTF-8 has, is escaped as JSON does it.
    """
    with replacing(path) as partial:
        partial.write(text.encode(errors="backslashreplace"))


def _table(to: str, fields: Fields) -> Table:
    """The rows for writing; numbers of heads are read off the arrays."""
    if to == timm.NAME:
        rows = timm.table(1)
        resnet = fields.get("resnet")
        return timm.stem_alone(rows) if resnet and not resnet["num_layers"] else rows
    if to == transformers.NAME:
        return transformers.table(1, prefix(fields))
    return big_vision.places() if to == big_vision.NAME else official.table()


def _grid_named(fields: Fields, size: tuple[int, int], grid: Grid | None) -> dict[str, Any]:
    """The field that names a grid of positions, where no square and no size of images tells it.

    An oblong one is named in any case, so that nothing hangs on the size. A Mixer has no such
    field, and its images make its grid always.
    """
    if grid is None or "hidden_size" not in architecture.image_tower(fields):
        return {}
    if grid[0] == grid[1] and architecture.patches_of(fields, size) in (None, grid):
        return {}
    positions = {"positions": {"grid": list(grid)}}
    return {"image": positions} if "text_model" in fields else positions


def _epsilon(fields: Fields) -> float:
    return (fields.get("transformer") or {}).get("epsilon", EPSILON)


def _check_big_vision(fields: Fields, arrays: Arrays) -> None:
    """Raises `CheckpointError` for what names of parameters do not show to be absent there."""
    encoder, positions = fields.get("transformer") or {}, fields.get("positions") or {}
    positions = {"kind": positions} if isinstance(positions, str) else positions
    attention = encoder.get("attention") or {}
    attention = {} if isinstance(attention, str) else attention
    if (
        "cls" in arrays
        and "Transformer/posembed_input/pos_embedding" in arrays
        and positions.get("class_row", True)
    ):
        raise CheckpointError(
            "big_vision gives the class token no position, and this model does; convert to "
            "'official', 'timm' or 'transformers'"
        )
    reason = None
    if "hidden_size" in fields and not encoder:
        reason = "model without an encoder"
    elif positions.get("kind") == "none" or not encoder.get("add_position_embedding", True):
        reason = "tokens without positions"
    elif attention.get("head_width") or not isinstance(encoder.get("num_heads", 1), int):
        reason = "heads of a number or width of their own"
    elif attention.get("qkv_bias") is False:
        reason = "attention without biases"
    if reason is not None:
        raise CheckpointError(
            f"big_vision has no {reason}; convert to 'official', which holds every model"
        )


def _as_json(value: Any) -> Any:
    """Fields as JSON knows them; a dtype by its name."""
    if isinstance(value, Mapping):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
