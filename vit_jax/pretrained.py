"""Trained weights from wherever they lie, as models to predict with, to evaluate, to train on."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax import trees
from vit_jax.checkpoints import adapt, architecture
from vit_jax.config import Config, default_config
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.experiment import make_model
from vit_jax.grids import Grid
from vit_jax.image_grid import grid_of
from vit_jax.models.inputs import example_inputs
from vit_jax.models.zoo import Model
from vit_jax.origin import (
    Fields,
    Origin,
    describe,
    known_name,
    model_of,
    of_file,
    of_model,
    shapes_of,
)
from vit_jax.pair_model import make_pair_model
from vit_jax.recipes import merge
from vit_jax.workdir import Workdir, find_run, is_run

logger = logging.getLogger("vit_jax")

Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      model: `model.apply(variables, images, train=False)` → logits (b, k); of a run on images with
        captions, a `LitModel`.
      variables: `params` (the running average where the run kept one) and `batch_stats`.
      preprocess: what the model expects of its images.
      class_names: names of the k classes, in the order of the logits.
      config: the settings it was trained with.
      workdir, step: where it comes from.
    """

    model: nn.Module
    variables: dict[str, trees.Tree]
    preprocess: Preprocess
    class_names: tuple[str, ...]
    config: Config
    workdir: Workdir
    step: int


def load_run(path: str | Path) -> Trained:
    """Reads a run from its checkpoint alone; its config file and its data are not needed.

    Args:
      path: a workdir, for the newest checkpoint that is intact, or WORKDIR/checkpoints/STEP.

    Raises:
      CheckpointError: there is none, or it cannot be read.
    """
    from vit_jax.checkpoints.store import Store  # Orbax takes a second to import

    workdir, step = find_run(path)
    with Store(workdir.checkpoints) as store:
        restored = store.restore_subtree("params", "batch_stats", "ema", step=step)
    if restored is None:
        raise CheckpointError(f"{path}: holds no checkpoint yet; train it first")
    state, metadata = restored.state, restored.metadata
    config = merge(default_config(), metadata["config"], origin=str(workdir.checkpoints))
    names = tuple(metadata["class_names"])
    variables = {
        "params": {**state["params"], **(state.get("ema") or {})},
        "batch_stats": state.get("batch_stats", {}),
    }
    is_pair = config.task == "contrast"
    return Trained(
        make_pair_model(config, metadata["vocab_size"])
        if is_pair
        else make_model(config, len(names)),
        variables,
        Preprocess.from_dict(metadata["preprocess"]),
        names,
        config,
        workdir,
        restored.step,
    )


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights that were loaded and adapted.

    Attributes:
      model: `model.apply(variables, preprocess(images))` → logits (b, k).
      variables: `params`, and `batch_stats` where the model has them.
      preprocess: what the model expects of its images.
      class_names: of the k classes; None where nobody named them, or the head is new.
      report: what became of every parameter.
      description: one line on what was loaded.
    """

    model: Model
    variables: dict[str, trees.Tree]
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    report: adapt.Report
    description: str


def load_pretrained(
    source: str | Path,
    num_classes: int | None = None,
    image_size: Size | None = None,
    *,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    strict: bool = True,
    **fields: Any,
) -> tuple[Model, dict[str, trees.Tree], Preprocess]:
    """Opens weights from anywhere as (model, variables, preprocess).

    `model.apply(variables, preprocess("cat.jpg"))` gives logits. What was loaded, and what became
    of every parameter, is logged at level INFO.

    Args:
      source: an official npz, a big_vision npz, a safetensors file or folder of timm or
        transformers, the workdir of a run or one of its checkpoints, a URL (https, hf, gs) of any
        such file, or a name of the catalogue.
      num_classes: None keeps the released head; 0 takes it off; any other number puts a new one in
        its place, which starts from zeros and, unless `representation_size` is the released one,
        without `pre_logits` (both as officially).
      image_size: in pixels, or (height, width); None keeps that of the weights. Positions are
        resized bilinearly as officially, or as `positions={"resize": "bicubic"}` says.
      preprocess: fields of a `Preprocess` that differ from what came with the weights, or a whole
        one. Weights that say nothing of it get that of the official evaluation.
      strict: False starts what the file lacks from initial values, and drops what the model lacks.
      fields: of `create_model`. They describe what a file does not say of itself (`transformer=
        {"activation": "gelu_erf", "num_heads": 3}`, `model_name`), or change the model
        (`patches={"size": (32, 32)}`, `dtype`, dropout rates).

    Raises:
      CheckpointError: no weights, damaged ones, or ones that do not fit.
      ConfigError: fields that do not exist or fit together.
    """
    loaded = open_pretrained(
        source, num_classes, image_size, preprocess=preprocess, strict=strict, **fields
    )
    return loaded.model, loaded.variables, loaded.preprocess


def open_pretrained(
    source: str | Path,
    num_classes: int | None = None,
    image_size: Size | None = None,
    *,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    strict: bool = True,
    **fields: Any,
) -> Pretrained:
    """Does what `load_pretrained` does, and returns all that is known of the weights."""
    origin = open_origin(source, fields)
    size = _size(image_size, origin)
    wanted = _wanted_fields(origin, num_classes, size, fields)
    model = model_of(wanted)
    shapes = shapes_of(model, size)
    change = _change(origin, wanted, num_classes, size)
    initial = None if strict else lambda: _initial(model, size)
    arrays, report = adapt.adapt(origin.load(), shapes, change, origin.where, initial)
    params = trees.unflatten({path: jnp.asarray(array) for path, array in arrays.items()})
    description = describe(origin)
    logger.info("%s\n%s", description, report)
    return Pretrained(
        model,
        {"params": params, **origin.beside},
        _preprocess(origin, size, preprocess),
        origin.class_names if num_classes is None else None,
        report,
        description,
    )


def open_origin(source: str | Path, fields: Mapping[str, Any]) -> Origin:
    """Returns the weights of a file or a run, not yet adapted; see `load_pretrained`."""
    if not is_run(source):
        return of_file(source, fields)
    run: Any = load_run(source)
    return of_model(str(source), run.model, run.variables, run.preprocess, run.class_names)


def _size(image_size: Size | None, origin: Origin) -> tuple[int, int]:
    if image_size is None:
        return origin.image_size
    height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise ConfigError(f"image_size={image_size}: must be positive, in pixels")
    return height, width


def _wanted_fields(
    origin: Origin, num_classes: int | None, size: tuple[int, int], changes: Mapping[str, Any]
) -> Fields:
    """Returns the fields of the model that was asked for."""
    changes = {name: value for name, value in changes.items() if name != "model_name"}
    wanted = architecture.merged(origin.fields, changes)
    if "text_model" in wanted:  # a LiT model
        if num_classes is not None:
            raise ConfigError(
                f"num_classes={num_classes}: {origin.where} holds a LiT model, which has no "
                "classes; leave it out, and name classes by texts (vit_jax zeroshot)"
            )
        positions = _positions(wanted["image"], grid_of(wanted, size))
        wanted["image"] = {**wanted["image"], "positions": positions}
        wanted["pp"] = {**wanted["pp"], "size": min(size)}
    if num_classes is not None:
        wanted["num_classes"] = num_classes or None
    if "hidden_size" in wanted:  # a Transformer
        released = origin.fields.get("representation_size")
        wanted["representation_size"] = adapt.representation(
            changes.get("representation_size"), released, new_head=bool(num_classes)
        )
        wanted["positions"] = _positions(wanted, grid_of(wanted, size))
    elif "text_model" not in wanted:
        wanted = architecture.without_grid(wanted)
    return {**wanted, "model_name": known_name(wanted)}


def _positions(wanted: Mapping[str, Any], grid: Grid | None) -> Any:
    """Names a grid in the field `positions` where it is oblong, or is to be resized when called.

    A square tells itself otherwise; but to a model that resizes, images of as many patches in
    another shape would seem to be those that the positions were made for.
    """
    positions = wanted.get("positions") or "learned"
    if not isinstance(positions, Mapping):
        positions = {"kind": positions}
    kept = {name: value for name, value in positions.items() if name != "grid"}
    named = grid is not None and (grid[0] != grid[1] or kept.get("resize") is not None)
    if named and kept.get("kind", "learned") == "learned":
        kept["grid"] = grid
    return "learned" if kept in ({}, {"kind": "learned"}) else kept


def _change(
    origin: Origin,
    wanted: Mapping[str, Any],
    num_classes: int | None,
    size: tuple[int, int],
) -> adapt.Change:
    tower = architecture.image_tower(wanted)
    positions, grid = tower.get("positions"), grid_of(wanted, size)
    in_front = architecture.rows_in_front(
        architecture.image_parameters(origin.shapes), architecture.image_tower(origin.fields)
    )
    method = positions.get("resize") if isinstance(positions, Mapping) else None
    return adapt.Change(
        new_head=bool(num_classes),
        head_bias=float(tower.get("head_bias_init", 0.0)),
        old_grid=origin.grid,
        new_grid=grid if origin.grid is not None else None,
        rows_in_front=in_front,
        resize=method or "bilinear",
    )


def _preprocess(
    origin: Origin, size: tuple[int, int], given: Preprocess | Mapping[str, Any] | None
) -> Preprocess:
    """What came with the weights, or the official evaluation's, as the user changed it."""
    if isinstance(given, Preprocess):
        return given
    known = origin.preprocess or Preprocess(origin.image_size)
    return dataclasses.replace(known.at(size), **(given or {}))


def _initial(model: Model, size: tuple[int, int]) -> dict[str, np.ndarray]:
    inputs = (jnp.zeros(one.shape, one.dtype) for one in example_inputs(model, size))
    variables = jax.jit(model.init)(jax.random.PRNGKey(0), *inputs)
    return trees.flatten(jax.device_get(variables["params"]))
