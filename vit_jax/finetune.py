"""Runs that start from pretrained weights: which, what they decide, and their values."""

from collections.abc import Mapping
from typing import Any

from vit_jax import trees
from vit_jax.checkpoints import architecture
from vit_jax.checkpoints.catalogue import pretrained_path
from vit_jax.checkpoints.mapping import Shape
from vit_jax.config import Config, changed, flatten
from vit_jax.errors import CheckpointError, ConfigError, nearest
from vit_jax.experiment import Experiment, model_fields
from vit_jax.image_grid import grid_of
from vit_jax.models.zoo import NAMED_FIELDS, Model, canonical_name
from vit_jax.origin import Fields, known_name, shapes_of
from vit_jax.pretrained import open_origin, open_pretrained
from vit_jax.settings import BY_LAYER, FROM_WEIGHTS, KEYS

# Of the released model's fields, those that a new head has of its own (official behaviour).
_OF_THE_HEAD = ("num_classes", "representation_size", "head_bias_init")


def weights_of(config: Config) -> str | None:
    """Returns the weights that a run starts from, as `load_pretrained` takes them.

    None is from scratch. The two settings mean what they meant officially: with `pretrained_dir`,
    a file in it, of the name `model_or_filename` or else `model.model_name`.

    Raises:
      ConfigError: a folder without a name.
      CheckpointError: an AugReg model of which no checkpoint is recommended.
    """
    folder, name = config.pretrained_dir, config.model_or_filename
    if folder is None:
        return name
    if name is None and config.model.model_name is None:
        raise ConfigError(
            f"config.pretrained_dir={folder!r}: which file in it? Give config.model_or_filename, "
            "or config.model.model_name"
        )
    if name is None:
        return f"{folder.rstrip('/')}/{canonical_name(config.model.model_name)}.npz"
    return pretrained_path(folder, name)


def settled(config: Config) -> Config:
    """Returns the config with what its pretrained weights decide, where it does not.

    That is the architecture, with activation and epsilon, and the preprocessing of colours. No
    array is read.

    Raises:
      CheckpointError: no such weights, or not those of the model that the config describes.
    """
    source = weights_of(config)
    if source is None:
        return config
    origin = open_origin(source, model_fields(config))
    said = _as_settings({**origin.fields, "model_name": known_name(origin.fields)})
    wanted = architecture.merged(origin.fields, model_fields(config))
    if origin.grid != grid_of(wanted, (config.pp.crop, config.pp.crop)):
        said.pop("model.positions.grid", None)  # positions are resized to those of the images
    if origin.preprocess is not None:
        said |= {f"pp.{key}": value for key, value in origin.preprocess.to_dict().items()}
    now = flatten(config)
    if now["pp.antialias"] is False:  # there is no bicubic without smoothing
        said.pop("pp.interpolation", None)
    free = [key for key in FROM_WEIGHTS if key in said and now[key] is None]
    return changed(config, {key: said[key] for key in free})


def _as_settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields of `create_model` as {setting: value}; those that are None are left out."""
    fields = {name: value for name, value in fields.items() if name not in _OF_THE_HEAD}
    said = {key: value for key, value in flatten({"model": fields}).items() if value is not None}
    for path in [*said]:
        name = NAMED_FIELDS.get(path.rpartition(".")[2])
        if name and isinstance(said[path], str):
            said[f"{path}.{name}"] = said.pop(path)
    for field, name in BY_LAYER.items():
        if isinstance(said.get(f"model.transformer.{field}"), tuple):
            said[f"model.transformer.{name}"] = said.pop(f"model.transformer.{field}")
    return {key: value for key, value in said.items() if key in KEYS}


def locked_parts(config: Config, model: Model, size: tuple[int, int]) -> tuple[str, ...]:
    """Returns the parts of the parameters that `train_only` leaves as the weights have them.

    Args:
      config: all settings.
      model: that of the run.
      size: (height, width) of its images.

    Raises:
      ConfigError: a name that no part has, or no weights to keep.
    """
    if config.train_only is None:
        return ()
    parts = [*dict.fromkeys(path.partition("/")[0] for path in shapes_of(model, size))]
    if unknown := [name for name in config.train_only if name not in parts]:
        raise ConfigError(
            f"config.train_only={config.train_only!r}: the model has no part {unknown[0]!r}"
            f"{nearest(unknown[0], parts)} (its parts are {', '.join(parts)})"
        )
    if weights_of(config) is None:
        raise ConfigError(
            f"config.train_only={config.train_only!r}: the other parts have no weights to keep, "
            "and would stay as they are at random; give config.model_or_filename, or "
            "config.train_only=None"
        )
    return tuple(part for part in parts if part not in config.train_only)


def starting_variables(experiment: Experiment) -> dict[str, trees.Tree] | None:
    """Returns the pretrained variables of a run's model, with a new head; None from scratch.

    The head starts from zeros, and positions are resized to the images (both as officially).

    Raises:
      CheckpointError: weights that do not fit the model.
    """
    source, size = weights_of(experiment.config), experiment.preprocess.size
    if source is None:
        return None
    fields: Fields = model_fields(experiment.config)
    loaded = open_pretrained(source, len(experiment.class_names), size, **fields)
    _check_shapes(source, loaded.variables["params"], shapes_of(experiment.model, size))
    return loaded.variables


def starting_tower(config: Config, tower: Model, size: tuple[int, int]) -> dict[str, trees.Tree]:
    """Returns the pretrained variables of an image tower, which has no head; {} from scratch.

    Args:
      config: all settings.
      tower: the model without a head.
      size: (height, width) of its images.

    Raises:
      CheckpointError: weights that do not fit the model.
    """
    source = weights_of(config)
    if source is None:
        return {}
    fields: Fields = {**model_fields(config), "representation_size": None}
    variables = open_pretrained(source, 0, size, **fields).variables
    _check_shapes(source, variables["params"], shapes_of(tower, size))
    return variables


def _check_shapes(source: str, params: trees.Tree, wanted: Mapping[str, Shape]) -> None:
    found = {path: tuple(array.shape) for path, array in trees.flatten(params).items()}
    if found != wanted:
        differ = sorted(wanted.items() ^ found.items())[:3]
        raise CheckpointError(f"{source}: not the weights of the model of this config: {differ}")
