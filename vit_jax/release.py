"""Weights out: folders that other libraries open, and one format turned into another."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import trees
from vit_jax.card import OPENED_BY, Facts, check_licence, facts_of_run, facts_of_source, model_card
from vit_jax.checkpoints import hub, official, writing
from vit_jax.checkpoints.adapt import LOSS_BIAS, POSITIONS
from vit_jax.checkpoints.config_files import CONFIGS
from vit_jax.checkpoints.kinds import INDEX, NPZ, SINGLE, check_format
from vit_jax.checkpoints.mapping import grouped
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.grids import show
from vit_jax.models.zoo import Model
from vit_jax.origin import Origin, describe, model_of, of_model, shapes_of
from vit_jax.pretrained import load_run, open_origin
from vit_jax.workdir import is_run

logger = logging.getLogger("vit_jax")

CARD = "README.md"
RELEASED = (NPZ, SINGLE, *CONFIGS, CARD)

_MODEL_FILES = (NPZ, SINGLE, INDEX)
_SHARD = r"model-\d+-of-\d+\.safetensors"


def save_pretrained(
    folder: str | Path,
    model: Model,
    variables: Mapping[str, trees.Tree],
    preprocess: Preprocess,
    *,
    class_names: Sequence[str] | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    score: str | float | Mapping[str, float] | None = None,
    data: str | None = None,
    licence: str | None = None,
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
      data: what it was trained on; for the card.
      licence: an identifier, such as "apache-2.0"; for the card.
      format: "timm", "transformers", "official" or "big_vision".

    Returns:
      The file of weights.

    Raises:
      ConfigError: an unknown format, or a licence that is no identifier.
      CheckpointError: a model that the format has no place for, parameters of another model, or
        names for other classes.
    """
    check_licence(licence)
    names = None if class_names is None else tuple(class_names)
    origin = of_model(str(folder), model, variables, preprocess, names)
    check_parameters(origin)
    if names is not None and len(names) != (origin.fields.get("num_classes") or 0):
        raise CheckpointError(
            f"class_names: {len(names)} names for {origin.fields.get('num_classes') or 0} classes; "
            "there must be one for each"
        )
    file = write(origin, folder, format)
    card = model_card(origin, format, Facts(recipe, score, data, licence))
    writing.write_text(Path(folder).expanduser() / CARD, card)
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
    origin, facts = open_with_facts(source, fields)
    return write_converted(origin, target, to, facts)


def check_target(target: str | Path, to: str, *, overwrite: bool) -> None:
    """Raises `ConfigError` unless a format may be written to a target; see `convert`.

    No weights are ever deleted: a folder that holds those of the other kind, which might be opened
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


def open_with_facts(source: str | Path, fields: Mapping[str, Any]) -> tuple[Origin, Facts]:
    """Opens weights, as `open_origin`, with what is known of them for the card."""
    if not is_run(source):
        return open_origin(source, fields), facts_of_source(source)
    run: Any = load_run(source)
    origin = of_model(str(source), run.model, run.variables, run.preprocess, run.class_names)
    return origin, facts_of_run(run)


def write_converted(
    origin: Origin, target: str | Path, to: str, facts: Facts | None = None
) -> Path:
    """Writes weights that have been opened, in a folder with a model card; see `convert`."""
    logger.info("%s", describe(origin))
    file = write(origin, target, to)
    if file.parent == Path(target).expanduser():
        writing.write_text(file.parent / CARD, model_card(origin, to, facts or Facts()))
    return file


def push_to_hub(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Uploads a folder that `save_pretrained` or `convert` wrote to the Hugging Face hub.

    It needs the extra `hub`, and somebody logged in: `hf auth login`, or a token in HF_TOKEN.
    `load_pretrained("hf://OWNER/NAME")` opens it from there.

    Args:
      folder: of it, weights, configs and model card are uploaded, as one commit, and nothing else.
        Weights and configs of another format that are there are deleted in it.
      repository: OWNER/NAME, made if it is not there.
      private: whether a new repository is for its owner alone.

    Returns:
      The URL of the repository.

    Raises:
      ConfigError: no such folder, no such name, or nobody is logged in.
      CheckpointError: the hub refuses, or cannot be reached, or huggingface_hub is not there.
    """
    hub.check_push(repository)
    path = Path(folder).expanduser()
    files = [name for name in RELEASED if (path / name).is_file()]
    if not {NPZ, SINGLE} & {*files}:
        raise ConfigError(f"{folder}: holds neither {SINGLE} nor {NPZ}; name a released folder")
    return hub.push(path, files, repository, private=private, replaced=_is_of_a_release)


def _is_of_a_release(name: str) -> bool:
    """Whether a file of a repository is weights or a config, which might be opened for others."""
    return name in (*_MODEL_FILES, *CONFIGS) or re.fullmatch(_SHARD, name) is not None


def check_parameters(origin: Origin) -> None:
    """Raises `CheckpointError` unless the arrays of `of_model` are such as its model makes.

    Position tables may be of another size than the images: models can resize them on the way.
    """
    size = origin.image_size
    statistics = {path: array.shape for path, array in _statistics(origin).items()}
    found = {**origin.shapes, **statistics}
    wanted = shapes_of(model_of(origin.fields), size, statistics=True)
    differing = [
        path
        for path in wanted | found
        if wanted.get(path) != found.get(path)
        and path != LOSS_BIAS
        and not path.endswith(POSITIONS)
    ]
    if differing:
        raise CheckpointError(
            f"{origin.where}: not as the model makes them for images of {show(size)}: "
            f"{'; '.join(grouped(differing))}; give the model that the parameters are of"
        )


def all_arrays(origin: Origin) -> dict[str, np.ndarray]:
    """Returns {path: array} of parameters, and of running statistics below `batch_stats/`."""
    return {**origin.load(), **_statistics(origin)}


def _statistics(origin: Origin) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in trees.flatten(dict(origin.beside)).items()}


def write(origin: Origin, target: str | Path, to: str) -> Path:
    """Writes weights that have been opened; see `convert`."""
    preprocess = origin.preprocess or Preprocess(origin.image_size)
    check_format(to)
    if "text_model" in origin.fields and to != official.NAME:
        raise CheckpointError(
            f"{origin.where}: a LiT model is written as {official.NAME!r} alone; {to} has no place "
            "for a text tower"
        )
    if origin.beside and to != official.NAME:
        raise CheckpointError(
            f"{origin.where}: has running statistics, which {to} has no place for; convert to "
            "'official', which holds every model"
        )
    beside = writing.configs(
        to, origin.fields, preprocess.size, preprocess.to_dict(), origin.class_names, origin.grid
    )
    return writing.write_weights(target, to, all_arrays(origin), origin.fields, beside)


def opened_by(file: Path, target: str | Path, to: str) -> list[str]:
    """Returns the lines of Python that open what has been written to a target."""
    ours = f"vit_jax.load_pretrained({str(target)!r})"
    if file == Path(target).expanduser():  # without the configs that other libraries need
        return [ours]
    return list(dict.fromkeys([OPENED_BY[to][1].replace("FOLDER", str(target)), ours]))
