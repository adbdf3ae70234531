"""Weights out: folders that other libraries open, and one format turned into another."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax import trees
from vit_jax.checkpoints import official, writing
from vit_jax.checkpoints.kinds import INDEX, SINGLE
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.models.zoo import Model
from vit_jax.origin import Origin, describe, of_model
from vit_jax.pretrained import open_origin

logger = logging.getLogger("vit_jax")

_MODEL_FILES = ("model.npz", SINGLE, INDEX)


def save_pretrained(
    folder: str | Path,
    model: Model,
    variables: Mapping[str, trees.Tree],
    preprocess: Preprocess,
    *,
    class_names: Sequence[str] | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    score: str | float | Mapping[str, float] | None = None,
    format: str = "timm",
) -> Path:
    """Writes a folder that timm or transformers opens, and `load_pretrained` too.

    Args:
      folder: for the weights (safetensors; npz for "official" and "big_vision"), `config.json` with
        the names of the classes, what `preprocess` does, and a model card, README.md.
      model, variables, preprocess: as `load_pretrained` returns them.
      class_names: of the k classes, in the order of the logits.
      recipe: how the model was trained: a text, or settings; for the card.
      score: how well it does: a text, a number, or several by name; for the card.
      format: "timm", "transformers", "official" or "big_vision".

    Returns:
      The file of weights.

    Raises:
      ConfigError: an unknown format.
      CheckpointError: a model that the format has no place for, or names for other classes.
    """
    names = None if class_names is None else tuple(class_names)
    origin = of_model(str(folder), model, variables, preprocess, names)
    if names is not None and len(names) != (origin.fields.get("num_classes") or 0):
        raise CheckpointError(
            f"class_names: {len(names)} names for {origin.fields.get('num_classes') or 0} classes; "
            "there must be one for each"
        )
    file = write(origin, folder, format)
    card = model_card(origin, format, recipe, score)
    writing.write_text(Path(folder).expanduser() / "README.md", card)
    return file


def convert(
    source: str | Path, target: str | Path, to: str, *, overwrite: bool = False, **fields: Any
) -> Path:
    """Turns weights of any source into another format; converted back they have the same bits.

    Args:
      source: what `load_pretrained` takes.
      target: a folder, or a file that ends in .npz or .safetensors, for the weights alone.
      to: "official", "timm", "transformers" or "big_vision".
      overwrite: whether a target that exists may be written over.
      fields: of `create_model`, that say what the file does not.

    Returns:
      The file of weights.

    Raises:
      ConfigError: an unknown format, or a target of another kind, or one that exists.
      CheckpointError: no weights, or a model that the format has no place for.
    """
    check_target(target, to, overwrite=overwrite)
    return write_converted(open_origin(source, fields), target, to)


def check_target(target: str | Path, to: str, *, overwrite: bool) -> None:
    """Raises `ConfigError` unless a format may be written to a target; see `convert`.

    Nothing is ever deleted: a folder that holds weights of the other kind, which might be opened
    in place of the new ones, is refused in any case.
    """
    file, target = writing.file_of(target, to), Path(target).expanduser()
    taken = any(target.iterdir()) if target.is_dir() else target.exists()
    if taken and not overwrite:
        raise ConfigError(
            f"{target}: is there already; name another target, or write over it with --force "
            "(overwrite=True)"
        )
    others = [
        n for n in _MODEL_FILES if target.is_dir() and n != file.name and (target / n).exists()
    ]
    if others:
        raise ConfigError(
            f"{target}: holds {others[0]}, which might be opened in place of {file.name}; delete "
            "it, or name another folder"
        )


def write_converted(origin: Origin, target: str | Path, to: str) -> Path:
    """Writes weights that have been opened, in a folder with a model card; see `convert`."""
    logger.info("%s", describe(origin))
    file = write(origin, target, to)
    if file.parent == Path(target).expanduser():
        writing.write_text(file.parent / "README.md", model_card(origin, to, None, None))
    return file


def write(origin: Origin, target: str | Path, to: str) -> Path:
    """Writes weights that have been opened; see `convert`."""
    if origin.beside:
        raise CheckpointError(
            f"{origin.where}: has running statistics ({', '.join(origin.beside)}), which no other "
            "format has a place for; keep the workdir"
        )
    preprocess = origin.preprocess or Preprocess(origin.image_size)
    writing.check_format(to)
    if "text_model" in origin.fields and to != official.NAME:
        raise CheckpointError(
            f"{origin.where}: a LiT model is written as {official.NAME!r} alone; {to} has no place "
            "for a text tower"
        )
    beside = writing.configs(
        to, origin.fields, preprocess.size, preprocess.to_dict(), origin.class_names
    )
    return writing.write_weights(target, to, origin.load(), origin.fields, beside)


_OPENED_BY = {
    "timm": ("timm", "timm.create_model('local-dir:FOLDER', pretrained=True)"),
    "transformers": ("transformers", "AutoModelForImageClassification.from_pretrained('FOLDER')"),
    "official": ("vit_jax", "vit_jax.load_pretrained('FOLDER')"),
    "big_vision": ("vit_jax", "vit_jax.load_pretrained('FOLDER')"),
}


def opened_by(file: Path, target: str | Path, to: str) -> list[str]:
    """Returns the lines of Python that open what has been written to a target."""
    ours = f"vit_jax.load_pretrained({str(target)!r})"
    if file == Path(target).expanduser():  # without the configs that other libraries need
        return [ours]
    return list(dict.fromkeys([_OPENED_BY[to][1].replace("FOLDER", str(target)), ours]))


def model_card(
    origin: Origin,
    format: str,
    recipe: str | Mapping[str, Any] | None,
    score: str | float | Mapping[str, float] | None,
) -> str:
    """Returns README.md of a released model, with the header that the hub reads."""
    library, opened = _OPENED_BY[format]
    what = describe(origin).partition(": ")[2]
    lines = [
        *("---", f"library_name: {library}", "pipeline_tag: image-classification", "tags:"),
        *("- image-classification", "- vit_jax", "---", "", f"# {Path(origin.where).name}", ""),
        *(f"A Vision Transformer written by vit_jax: {what}.", "", "```python", opened),
        *("vit_jax.load_pretrained('FOLDER')  # model, variables, preprocess", "```"),
    ]
    if origin.class_names:
        lines += ["", "## Classes", "", ", ".join(origin.class_names)]
    if score is not None:
        lines += ["", "## Score", "", _as_text(score)]
    if recipe is not None:
        lines += ["", "## Recipe", "", _as_text(recipe)]
    return "\n".join(lines) + "\n"


def _as_text(value: str | float | Mapping[str, Any]) -> str:
    if isinstance(value, Mapping):
        return f"```json\n{json.dumps(value, indent=2, default=str)}\n```"
    return str(value)
