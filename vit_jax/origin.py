"""Weights as they lie in a file or a run, before they are adapted, and the models they are of."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import trees
from vit_jax.checkpoints import architecture, lit
from vit_jax.checkpoints.formats import Weights, making_sense, open_weights
from vit_jax.checkpoints.mapping import Shape
from vit_jax.checkpoints.resolve import Located, resolve
from vit_jax.data.preprocess import Preprocess
from vit_jax.describing import ENCODER_SIZES, SIZES, changed_sizes, describing
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.grids import Grid, show
from vit_jax.image_grid import grid_of_table, pixels_of
from vit_jax.models.inputs import example_inputs
from vit_jax.models.pruning import fit_heads
from vit_jax.models.vit import VisionTransformer
from vit_jax.models.zoo import Model, create_model, list_models, model_fields

logger = logging.getLogger("vit_jax")

Fields = dict[str, Any]

ANY_SIZE = (224, 224)  # where the parameters serve any size of images


@dataclasses.dataclass(frozen=True)
class Origin:
    """Weights before they are adapted; of a file, no array has been read yet.

    Attributes:
      where: the file or workdir.
      kind: of which format it is.
      fields: of `create_model`, that give its parameters; `num_classes` among them.
      shapes: {path: shape} of its parameters.
      grid: of the patches that positions were made for; None for any.
      load: reads the parameters, {path: array}.
      preprocess: what it expects of images; None if it does not say.
      class_names: None where it names none.
      beside: other collections of variables.
    """

    where: str
    kind: str
    fields: Fields
    shapes: Mapping[str, Shape]
    grid: Grid | None
    load: Callable[[], Mapping[str, np.ndarray]]
    preprocess: Preprocess | None
    class_names: tuple[str, ...] | None = None
    beside: Mapping[str, trees.Tree] = dataclasses.field(default_factory=dict)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the weights were made for."""
        if self.preprocess is not None:
            return self.preprocess.size
        return pixels_of(self.grid, self.fields) or ANY_SIZE


def of_file(source: str | Path, fields: Mapping[str, Any]) -> Origin:
    """Opens a file of weights and checks it against the model that it says it is of.

    Args:
      source: what `checkpoints.resolve` takes.
      fields: the user's, of `create_model`; those that describe the file are used.

    Raises:
      CheckpointError: no weights, or parameters that are missing, extra or of another shape.
    """
    weights, known = open_located(resolve(source), fields)
    with making_sense(str(source)):
        grid = weights.grid
        if known is not None and weights.fields.get("stem"):  # as `open_weights` does for patches
            grid = grid_of_table(weights.shapes, weights.fields, known.size, weights.where)
        size = pixels_of(grid, weights.fields)
    rounding = "down" if weights.layout.format == lit.NAME else "nearest"  # both as officially
    preprocess = known or (Preprocess(size, rounding=rounding) if size is not None else None)
    origin = Origin(
        str(source),
        weights.layout.format,
        weights.fields,
        weights.shapes,
        grid,
        weights.load,
        preprocess,
        weights.layout.class_names,
    )
    with making_sense(str(source)):
        model = model_of(origin.fields)
        weights.check(shapes_of(model, size or origin.image_size, statistics=True))
    if weights.unused:
        logger.info("%s: of no use to a classifier: %s", source, ", ".join(weights.unused))
    return dataclasses.replace(origin, beside=weights.beside())


def open_located(located: Located, fields: Mapping[str, Any]) -> tuple[Weights, Preprocess | None]:
    """Reads the headers of a file; what it expects of images is None where nobody says so.

    Raises:
      CheckpointError: no weights; they are not compared with those of a model yet.
    """
    hints = architecture.merged(located.fields, describing(fields))
    if (name := fields.get("model_name")) is not None:
        named = architecture.merged(model_fields(name), changed_sizes(fields))
        named.pop("representation_size", None)  # files of ImageNet-21k have one; their arrays tell
        hints = architecture.merged(named, hints)
    weights = open_weights(located.path, located.config, located.processor, hints)
    return weights, _stated(located.preprocess or weights.layout.preprocess, weights.where)


def _stated(known: Mapping[str, Any] | None, where: str) -> Preprocess | None:
    """Returns what a file or the catalogue says of images; nonsense is a `CheckpointError`."""
    try:
        return Preprocess.from_dict(dict(known)) if known else None
    except (ConfigError, TypeError, ValueError) as error:
        said = f"{where}: what it says of images makes no sense ({error}); mend its config.json"
        raise CheckpointError(said) from error


def of_model(
    where: str,
    model: Model,
    variables: Mapping[str, trees.Tree],
    preprocess: Preprocess | None,
    class_names: tuple[str, ...] | None,
) -> Origin:
    """Returns the origin of a model that is here, with its parameters, pruned or not."""
    params = trees.flatten(variables["params"])
    fields = fields_of(_with_heads_of(model, variables["params"]))
    shapes = {path: tuple(array.shape) for path, array in params.items()}
    grid = grid_of_table(shapes, fields, preprocess.size if preprocess else None, where)
    stats = variables.get("batch_stats")
    return Origin(
        where,
        "run",
        fields,
        shapes,
        grid,
        lambda: {path: np.asarray(jax.device_get(array)) for path, array in params.items()},
        preprocess,
        class_names,
        {"batch_stats": stats} if stats else {},
    )


def _with_heads_of(model: Model, params: trees.Tree) -> Model:
    """Returns the model that has as many heads as pruned parameters, which any model applies."""
    if not isinstance(model, VisionTransformer) or model.transformer is None:
        return model
    try:
        return fit_heads(model, params)
    except KeyError:  # of another model: see `check_parameters`
        return model


def fields_of(model: Model) -> Fields:
    """Returns the fields of `create_model` that build a model again."""
    own = [
        field.name for field in dataclasses.fields(model) if field.name not in ("parent", "name")
    ]
    fields = _without_encoder({name: _plain(getattr(model, name)) for name in own})
    if "text_model" in fields:
        fields["image"] = _without_encoder(fields["image"])
    return fields


def _without_encoder(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name != "encoder"}


def model_of(fields: Mapping[str, Any]) -> Model:
    """Builds the model that fields describe, `num_classes` among them."""
    others = {name: value for name, value in fields.items() if name != "num_classes"}
    return create_model(None, fields.get("num_classes"), **others)


def shapes_of(model: Model, size: tuple[int, int], *, statistics: bool = False) -> dict[str, Shape]:
    """Returns {path: shape} of a model's parameters for images of a size; computes nothing.

    With `statistics`, those of running statistics too, below `batch_stats/`.
    """
    inputs = example_inputs(model, size)
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), *inputs)
    leaves = trees.flatten(variables["params"])
    if statistics and "batch_stats" in variables:
        leaves |= trees.flatten({"batch_stats": variables["batch_stats"]})
    return {path: tuple(leaf.shape) for path, leaf in leaves.items()}


def known_name(fields: Mapping[str, Any]) -> str | None:
    """Returns the named architecture of these sizes; None if there is none."""
    sizes = _sizes(fields)
    return next((name for name, known in _sizes_of_named().items() if known == sizes), None)


@functools.cache
def _sizes_of_named() -> dict[str, Any]:
    return {name: _sizes(model_fields(name)) for name in list_models()}


def describe_model(model: Model) -> str:
    """Returns the name of a model, with its sizes where they are others; or the sizes alone."""
    name, fields = model.model_name, fields_of(model)
    if name is not None and _sizes_of_named().get(name) == _sizes(fields):
        return name
    said = name_or_sizes(fields)
    return f"{name} as {said}" if name else said


def name_or_sizes(fields: Mapping[str, Any]) -> str:
    """Returns the name of the architecture, or its sizes where it has none."""
    if (name := known_name(fields)) is not None:
        return name
    if "text_model" in fields:
        return f"LiT of {name_or_sizes(fields['image'])} and a {_text_sizes(fields)}"
    kind = "Mixer" if "hidden_dim" in fields else "ViT"
    wide = fields.get("hidden_size", fields.get("hidden_dim"))
    depth = (fields.get("transformer") or {}).get("num_layers", fields.get("num_blocks"))
    patch, stem = (fields.get("patches") or {}).get("size"), fields.get("stem")
    tokens = f", patches of {show(tuple(patch))}" if patch and not stem else ""
    front = "ResNet" if fields.get("resnet") else stem and f"{stem} stem"
    behind = f" behind a {front}" if front else ""
    return f"{kind} of {depth} blocks, {wide} wide{tokens}{behind}"


def _text_sizes(fields: Mapping[str, Any]) -> str:
    """Returns a LiT's text tower in words."""
    text = fields["text"]
    sizes = text.get("config", text)
    if isinstance(sizes, str):
        return f"{sizes} BERT"
    wide = sizes.get("hidden_size", sizes.get("width"))
    depth = sizes.get("num_hidden_layers", sizes.get("num_layers"))
    return f"{fields['text_model']} of {depth} blocks, {wide} wide"


def describe(origin: Origin) -> str:
    """Returns one line: what the weights are."""
    fields = origin.fields
    count = sum(int(np.prod(shape)) for shape in origin.shapes.values())
    classes = fields.get("num_classes")
    head = f"{classes} classes" if classes else "no head"
    if "text_model" in fields:
        head = f"texts of {fields['pp']['max_len']} tokens"
    height, width = origin.image_size
    return (
        f"{origin.where}: {origin.kind}, {name_or_sizes(fields)}, {count:,} parameters, {head}, "
        f"{height}×{width} px"
    )


def _sizes(fields: Mapping[str, Any]) -> Any:
    """Returns what tells architectures apart, to compare."""
    if "text_model" in fields:
        own = (_plain(fields[name]) for name in ("text_model", "text", "out_dim"))
        return [_sizes(fields["image"]), *own]
    encoder, resnet = fields.get("transformer") or {}, fields.get("resnet") or {}
    pool = fields.get("pool") or {"gap": "mean"}.get(fields.get("classifier", ""), "token")
    return (
        [_plain(fields.get(name)) for name in SIZES],
        [_plain(encoder.get(name)) for name in ENCODER_SIZES],
        tuple(resnet.get("num_layers", ())) if resnet else None,
        fields.get("stem"),
        pool if "hidden_size" in fields else None,
    )


def _plain(value: Any) -> Any:
    """Mappings of any kind as dicts, lists as tuples, at every depth."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return tuple(_plain(inner) for inner in value) if isinstance(value, list) else value
