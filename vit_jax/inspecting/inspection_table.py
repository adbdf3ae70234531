"""What `vit_jax inspect` prints."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.statistics import Statistics
from vit_jax.data.preprocess import Preprocess
from vit_jax.grids import show
from vit_jax.inspecting.inspection import Inspection, UnknownWeights, inspect
from vit_jax.tables import console, table

_NAMED = 5  # classes whose names are shown


def print_inspection(source: str, *, as_json: bool = False, **fields: Any) -> None:
    """Prints what weights hold; of an unknown file the arrays, before the error is raised.

    Raises:
      CheckpointError: as `inspect`.
    """
    try:
        found = inspect(source, **fields)
    except UnknownWeights as error:
        _print_arrays(error, as_json)
        raise
    if as_json:
        print(found.to_json())
        return
    out = console()
    for name, value in _facts(found).items():
        out.print(f"{name:<13} {value}", soft_wrap=True)
    out.print(_layers(found))
    for heading, lines in (("strange", found.survey.strange), ("unused", found.unused)):
        for line in lines or (["nothing"] if heading == "strange" else []):
            out.print(f"{heading:<13} {line}", soft_wrap=True)


def _facts(found: Inspection) -> dict[str, str]:
    """What stands above the table."""
    arrays = ", ".join(f"{count} arrays of {dtype}" for dtype, count in found.dtypes.items())
    facts = {
        "file": found.file,
        "format": found.format,
        "architecture": found.architecture,
        "activation": found.activation or "not said; the official gelu_tanh is used",
        "parameters": f"{found.parameters:,} ({arrays})",
        "classes": _classes(found.num_classes, found.class_names),
        "images": _images(found),
        "preprocess": _prepared(found.preprocess),
    }
    if found.run is not None:
        facts["run"] = _run(found.run)
    return facts


def _classes(count: int | None, names: Sequence[str] | None) -> str:
    if not count:
        return "none: there is no head"
    if names is None:
        return f"{count}, not named"
    return f"{count}: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}"


def _images(found: Inspection) -> str:
    size = f"{show(found.image_size)} px" if found.image_size else "of any size"
    return f"{size}, {show(found.grid)} patches" if found.grid else size


def _prepared(preprocess: Preprocess | None) -> str:
    if preprocess is None:
        return "not said; that of the official evaluation is used"
    size, resize = show(preprocess.size), preprocess.resize
    cut = f"shorter side to {resize}, {size} from the centre" if resize else f"resized to {size}"
    way = f"{preprocess.interpolation}{', antialiased' if preprocess.antialias else ''}"
    mean, std = (", ".join(f"{x:g}" for x in v) for v in (preprocess.mean, preprocess.std))
    return f"{cut}, {way}; mean {mean}; std {std}"


def _run(run: Mapping[str, Any]) -> str:
    scores = "".join(f", {name} {value:.4f}" for name, value in run["scores"].items())
    averaged = ", running average of the parameters" if run["averaged"] else ""
    return f"step {run['step']} on {run['dataset']}, seed {run['seed']}{averaged}{scores}"


def _layers(found: Inspection) -> Any:
    figures = ("count", "mean", "std", "max |x|", "zeros")
    total, layers = found.survey.total, found.survey.layers
    damaged = total.finite < total.count
    rows = table(None, ["layer"], [*figures, "NaN", "infinite"] if damaged else figures)
    for layer, statistics in {**layers, "all": total}.items():
        rows.add_row(layer, *_cells(statistics, damaged))
    return rows


def _cells(statistics: Statistics, damaged: bool) -> list[str]:
    moments = (statistics.mean, statistics.std, statistics.largest)
    share = statistics.zeros / statistics.count if statistics.count else 0.0
    return [
        f"{statistics.count:,}",
        *(f"{value:.4g}" if statistics.finite else "" for value in moments),
        ("<0.1%" if share < 0.001 else f"{share:.1%}") if statistics.zeros else "",
        *([f"{statistics.nan:,}", f"{statistics.infinite:,}"] if damaged else []),
    ]


def _print_arrays(error: UnknownWeights, as_json: bool) -> None:
    """Prints the names, dtypes and shapes that a file declares."""
    if as_json:
        arrays = {
            name: {"dtype": str(header.dtype), "shape": header.shape}
            for name, header in error.arrays.items()
        }
        print(json.dumps({"error": str(error), "arrays": arrays}, indent=2, ensure_ascii=False))
        return
    rows = table(None, ["array", "dtype"], ["shape"])
    for name, header in error.arrays.items():
        rows.add_row(name, str(header.dtype), _shape(header))
    console().print(rows)


def _shape(header: Header) -> str:
    return "×".join(str(n) for n in header.shape) or "scalar"
