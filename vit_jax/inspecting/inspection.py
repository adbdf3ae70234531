"""What a file of weights or a run holds, found out without building a model of it.

`load_pretrained` refuses damaged weights; here they are shown as they are. A file is read a few
arrays at a time, whatever its size; a run as a whole.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax import trees
from vit_jax.checkpoints.arrays import read_headers
from vit_jax.checkpoints.formats import Weights, making_sense
from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.mapping import grouped
from vit_jax.checkpoints.resolve import resolve
from vit_jax.checkpoints.survey import Survey, survey
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.grids import Grid
from vit_jax.image_grid import grid_of, pixels_of
from vit_jax.origin import fields_of, name_or_sizes, open_located
from vit_jax.pretrained import Trained, load_run
from vit_jax.records.metrics_file import scores_of
from vit_jax.workdir import is_run


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What there is to know of weights.

    Attributes:
      source: as the user named it.
      file: of the weights, or the step's folder of a run.
      format: "official", "big_vision", "timm", "transformers" or "run".
      architecture: its name, or its sizes where it has none.
      activation: in the MLPs; None where nobody says so.
      parameters: how many numbers the model has.
      dtypes: {dtype: arrays stored so}.
      num_classes: None where there is no head.
      class_names: None where nobody named them.
      image_size: (height, width) in pixels that they were made for; None for any.
      grid: of the patches, (rows, columns), that positions were made for; None for any.
      preprocess: what they expect of images; None where nobody says so.
      survey: the statistics of each layer, and all that is strange.
      unused: arrays that a classifier has no use for.
      run: of a run: its step, data, seed and the scores of that step; None for a file.
    """

    source: str
    file: str
    format: str
    architecture: str
    activation: str | None
    parameters: int
    dtypes: Mapping[str, int]
    num_classes: int | None
    class_names: tuple[str, ...] | None
    image_size: tuple[int, int] | None
    grid: Grid | None
    preprocess: Preprocess | None
    survey: Survey
    unused: tuple[str, ...] = ()
    run: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """Returns all of it as one JSON object."""
        content = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "survey"
        }
        content["preprocess"] = self.preprocess and self.preprocess.to_dict()
        content["layers"] = {
            layer: statistics.to_dict() for layer, statistics in self.survey.layers.items()
        }
        content["strange"] = self.survey.strange
        return json.dumps(content, indent=2, ensure_ascii=False)


class UnknownWeights(CheckpointError):
    """A file whose arrays can be read, but are those of no known model.

    Attributes:
      arrays: what it declares, {name: dtype and shape}.
    """

    def __init__(self, reason: str, arrays: Mapping[str, Header]):
        super().__init__(reason)
        self.arrays = arrays


def inspect(source: str | Path, **fields: Any) -> Inspection:
    """Looks at weights of any source.

    Args:
      source: what `load_pretrained` takes.
      fields: of `create_model`, that say what a file does not.

    Raises:
      UnknownWeights: the arrays of the file are of no known model; it has their names and shapes.
      CheckpointError: there is no such file, or it cannot be read.
    """
    if is_run(source):
        return _of_run(str(source), load_run(source))
    located = resolve(source)
    headers = read_headers(located.path)
    try:
        weights, preprocess = open_located(located, fields)
    except CheckpointError as error:
        raise UnknownWeights(str(error), headers) from error
    with making_sense(str(source)):
        return _of_file(str(source), weights, preprocess, headers)


def _of_file(
    source: str, weights: Weights, preprocess: Preprocess | None, headers: Mapping[str, Header]
) -> Inspection:
    fields, looked_at = weights.fields, survey(weights.stream())
    unfit = [f"{name}: is no array of this format" for name in grouped(weights.reading.unknown)]
    unfit += [f"{misfit}, which is none of this format" for misfit in weights.reading.misfits]
    return Inspection(
        source,
        weights.where,
        weights.layout.format,
        name_or_sizes(fields),
        (fields.get("transformer") or {}).get("activation"),
        sum(math.prod(shape) for shape in weights.shapes.values()),
        collections.Counter(str(header.dtype) for header in headers.values()),
        fields.get("num_classes"),
        weights.layout.class_names,
        preprocess.size if preprocess else pixels_of(weights.grid, fields),
        weights.grid,
        preprocess,
        dataclasses.replace(looked_at, strange=(*looked_at.strange, *unfit)),
        weights.unused,
    )


def _of_run(source: str, run: Trained) -> Inspection:
    model: Any = run.model
    fields, arrays = fields_of(model), trees.flatten(run.variables["params"])
    statistics = trees.flatten(run.variables["batch_stats"])
    beside = {f"batch_stats/{path}": array for path, array in statistics.items()}
    return Inspection(
        source,
        str(run.workdir.checkpoints / str(run.step)),
        "run",
        name_or_sizes(fields),
        (fields.get("transformer") or {}).get("activation", "gelu_tanh"),
        trees.count(arrays),
        collections.Counter(str(array.dtype) for array in arrays.values()),
        len(run.class_names),
        run.class_names,
        run.preprocess.size,
        grid_of(fields, run.preprocess.size),
        run.preprocess,
        survey([*arrays.items(), *beside.items()]),
        run=_facts(run),
    )


def _facts(run: Trained) -> dict[str, Any]:
    """The step of a run, what it was trained on, and the scores of that step itself."""
    return {
        "step": run.step,
        "dataset": run.config.dataset,
        "seed": run.config.seed,
        "averaged": run.config.ema_decay > 0,
        "scores": scores_of(run.workdir.metrics, run.step),
    }
