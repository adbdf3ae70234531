"""Which format a file of weights has, and what it holds in the names and shapes used here."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import trees
from vit_jax.checkpoints import (
    architecture,
    big_vision,
    lit,
    mapping,
    official,
    timm,
    timm_mixer,
    transformers,
)
from vit_jax.checkpoints.arrays import (
    check_finite,
    read_arrays,
    read_headers,
    stream_arrays,
)
from vit_jax.checkpoints.config_files import OURS, PROCESSOR, read_config
from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.mapping import Shape, Table
from vit_jax.checkpoints.torch_rows import check_head_width
from vit_jax.errors import CheckpointError, VitJaxError
from vit_jax.grids import Grid

logger = logging.getLogger("vit_jax")

Config = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
STATISTICS = "batch_stats/"  # before the names of running statistics, in files of our own
_NAMED = 5  # names of arrays shown in an error


def _unchanged(arrays: Arrays) -> dict[str, np.ndarray]:
    return dict(arrays)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a file names its arrays, and what its format says that shapes do not.

    Attributes:
      format: "official", "lit", "big_vision", "timm" or "transformers".
      table: its rows.
      hints: fields of `create_model` that the format or its config gives.
      prepared: what is done to the arrays before the table is applied.
      preprocess: fields of a `Preprocess`; None where the file says nothing of images.
      class_names: None where the file names no classes.
    """

    format: str
    table: Table
    hints: dict[str, Any]
    prepared: Callable[[Arrays], dict[str, np.ndarray]] = _unchanged
    preprocess: dict[str, Any] | None = None
    class_names: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """A file of weights whose headers have been read, and no array yet.

    Attributes:
      where: the file or folder.
      layout: its format.
      shapes: {our path: shape} of its parameters.
      fields: of `create_model`, `num_classes` among them, that give these parameters.
      grid: the patches, (rows, columns), that they were made for; None for any.
      unused: names of arrays in the file that a classifier has no use for.
    """

    where: str
    layout: Layout
    shapes: dict[str, Shape]
    fields: dict[str, Any]
    grid: Grid | None
    unused: tuple[str, ...]
    reading: mapping.Reading

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that the positions were made for; None for any."""
        fields = architecture.image_tower(self.fields)
        if self.grid is None or not fields.get("patches"):
            return None
        patch = architecture.pixels_of_patch(fields)
        return self.grid[0] * patch[0], self.grid[1] * patch[1]

    def check(self, wanted: Mapping[str, Shape]) -> None:
        """Raises one `CheckpointError` with all that differs from a model of these shapes."""
        mapping.check(self.reading, wanted, self.layout.table, self.where)

    def load(self) -> dict[str, np.ndarray]:
        """Reads the arrays, {our path: array}, of the dtypes that they are stored in.

        Raises:
          CheckpointError: damaged bytes, or values that are not finite.
        """
        arrays = read_arrays(self.where)
        check_finite(arrays, self.where)
        ours = mapping.read(self.layout.table, self.layout.prepared(arrays)).arrays
        return {path: array for path, array in ours.items() if path in self.shapes}

    def beside(self) -> dict[str, trees.Tree]:
        """Reads the running statistics: {"batch_stats": their tree}; {} where there are none."""
        names = {p: name for p, name in self.reading.sources.items() if p.startswith(STATISTICS)}
        arrays = read_arrays(self.where, names.values()) if names else {}
        check_finite(arrays, self.where)
        return trees.unflatten({path: arrays[name] for path, name in names.items()})

    def stream(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (our path, array) few at a time, NaN and all, to be looked at.

        Positions that `load` adds to the tokens they belong to are still in their table.
        """
        for name, array in stream_arrays(self.where):
            yield from mapping.read(self.layout.table, {name: array}).arrays.items()


def open_weights(
    path: str | Path,
    config: Config | None = None,
    processor: Config | None = None,
    hints: Mapping[str, Any] | None = None,
) -> Weights:
    """Reads the headers of a file of weights and says what model it is of.

    Args:
      path: an npz or safetensors file, or a folder with model.safetensors.
      config, processor: what config.json and preprocessor_config.json say; None reads those in the
        folder, or beside the file, where there are any.
      hints: fields of `create_model` that are known already; they win over what the file says.

    Raises:
      CheckpointError: not a file of weights of a known format, or of an architecture that cannot
        be told.
    """
    headers = read_headers(path)
    if config is None:
        config = read_config(Path(path))
    if processor is None:
        processor = read_config(Path(path), PROCESSOR)
    with making_sense(str(path)):
        layout = layout_of(headers, str(path), config, processor, hints or {})
        layout = _with_ours(layout, config.get(OURS) or {})
        reading = mapping.read(layout.table, layout.prepared(mapping.shapes_alone(headers)))
        shapes = {
            path: array.shape
            for path, array in reading.arrays.items()
            if not path.startswith(STATISTICS)
        }
        known = architecture.merged(layout.hints, hints or {})
        if layout.format == lit.NAME:
            fields = lit.fields_of(shapes, known, str(path))
        else:
            fields = architecture.fields_of(shapes, known, str(path))
        if layout.format in (timm.NAME, transformers.NAME):
            check_head_width(fields, str(path))
        tower = architecture.image_tower(fields)
        grid = architecture.grid_of(
            architecture.image_parameters(shapes),
            {**known, **tower},  # a Mixer's grid is known without being one of its fields
            str(path),
            architecture.patches_of(tower, (layout.preprocess or {}).get("size")),
        )
        _check_depth(tower, len(shapes), str(path))
        layout = _with_names_of_all(layout, fields.get("num_classes"), str(path))
    return Weights(str(path), layout, shapes, fields, grid, reading.unused, reading)


@contextlib.contextmanager
def making_sense(where: str) -> Iterator[None]:
    """Whatever nonsense in a config or odd shapes lead to becomes `CheckpointError`."""
    try:
        yield
    except VitJaxError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{where}: its arrays and its config.json make no model ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); the file is damaged, or no model of this kind"
        ) from error


def layout_of(
    headers: Mapping[str, Header],
    where: str,
    config: Config,
    processor: Config,
    hints: Mapping[str, Any],
) -> Layout:
    """Returns the layout of arrays with these names and shapes; see `open_weights`."""
    if (prefix := big_vision.prefix_of(headers)) is not None:
        rows = big_vision.table(prefix, stacked=big_vision.is_stacked(headers))
        return Layout(big_vision.NAME, rows, big_vision.hints(headers))
    if (prefix := lit.prefix_of(headers)) is not None:
        return Layout(lit.NAME, lit.table(prefix, headers), {})
    if (prefix := official.prefix_of(headers)) is not None:
        rows = official.table(prefix, published=official.is_published(headers))
        return Layout(official.NAME, rows, {})
    if timm.recognises(headers):
        return _timm(headers, config, hints, where)
    if timm_mixer.recognises(headers):
        said = timm.preprocess(config), timm.labels(config)
        return Layout(timm_mixer.NAME, timm_mixer.table(), {}, _unchanged, *said)
    if transformers.recognises(headers):
        return _transformers(headers, config, processor, hints, where)
    shown = ", ".join(list(headers)[:_NAMED]) + (", …" if len(headers) > _NAMED else "")
    raise CheckpointError(
        f"{where}: is of no known format: its arrays are named {shown}; known are the official "
        "npz (LiT too), big_vision's npz, and safetensors of ViT and DeiT (timm, transformers) and "
        "Mixer (timm)"
    )


def holds_weights(path: Path) -> bool:
    """Whether a file's arrays are named as those of a known format are."""
    try:
        names = read_headers(path)
    except CheckpointError:
        return False
    prefixes = big_vision.prefix_of(names), official.prefix_of(names), lit.prefix_of(names)
    torch = (timm, timm_mixer, transformers)
    return prefixes != (None, None, None) or any(one.recognises(names) for one in torch)


def _with_ours(layout: Layout, ours: Config) -> Layout:
    """Adds what our own part of a config says, which wins over what it says in others' words."""
    names = ours.get("class_names")
    return dataclasses.replace(
        layout,
        hints=architecture.merged(layout.hints, ours.get("fields") or {}),
        preprocess=ours.get("preprocess") or layout.preprocess,
        class_names=tuple(names) if names else layout.class_names,
    )


def _check_depth(fields: Mapping[str, Any], arrays: int, where: str) -> None:
    """Refuses blocks beyond number before a model of so many is built, to compare its shapes."""
    blocks = (fields.get("transformer") or {}).get("num_layers", fields.get("num_blocks", 0))
    if blocks > arrays:
        raise CheckpointError(f"{where}: its config.json tells of {blocks} blocks; it has fewer")


def _with_names_of_all(layout: Layout, count: int | None, where: str) -> Layout:
    """Drops names that are not one text for each class of the head: nobody knows whose they are."""
    names = layout.class_names
    if names is None or (len(names) == count and all(isinstance(name, str) for name in names)):
        return layout
    if count:
        said = f"{len(names)} names, not one text for each of {count} classes; they are left out"
        logger.warning("%s: its config.json has %s", where, said)
    return dataclasses.replace(layout, class_names=None)


def _timm(
    headers: Mapping[str, Header], config: Config, hints: Mapping[str, Any], where: str
) -> Layout:
    shapes = mapping.shapes_alone(headers)
    count = timm.heads(headers[timm.PATCHES].shape[0], config, hints, where)
    return Layout(
        timm.NAME,
        timm.table(count),
        timm.hints(shapes, config, where),
        lambda arrays: timm.prepared(arrays, config),
        timm.preprocess(config),
        timm.labels(config),
    )


def _transformers(
    headers: Mapping[str, Header],
    config: Config,
    processor: Config,
    hints: Mapping[str, Any],
    where: str,
) -> Layout:
    prefix = transformers.prefix_of(headers) or ""
    width = headers[f"{prefix}{transformers.PATCHES}"].shape[0]
    count = transformers.heads(width, config, hints, where)
    rows = transformers.table(count, prefix, new=transformers.is_new(headers))
    return Layout(
        transformers.NAME,
        [*transformers.unread(headers), *rows],
        transformers.hints(config, where),
        transformers.prepared,
        transformers.preprocess(config, processor, where),
        transformers.labels(config),
    )
