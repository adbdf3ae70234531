"""What `vit_jax models` prints: names, what one model is made of, the published weights."""

import collections
import dataclasses
import json

from vit_jax.checkpoints import catalogue
from vit_jax.models.lit import LitModel
from vit_jax.models.summary import Layer, compiled_flops, summarize
from vit_jax.models.zoo import canonical_name, create_model, list_models
from vit_jax.recipes import shipped
from vit_jax.tables import console, table


def print_names() -> None:
    """Prints the models and the recipes that there are."""
    print("models   ", "  ".join(list_models()))
    print("recipes  ", "  ".join(shipped()))
    print("\nvit_jax models NAME --size=224 shows the layers, parameters and GFLOP of one.")
    print("vit_jax models --pretrained [PATTERN] lists the published weights.")


def print_model(name: str, size: tuple[int, int], num_classes: int) -> None:
    """Prints the layers of a named model at an image size (height, width) in pixels.

    Raises:
      ConfigError, DataError: an unknown name, or a size that does not fit.
    """
    model = create_model(name, num_classes)
    summary = summarize(model, size)
    gives = f"{num_classes} classes"
    if isinstance(model, LitModel):
        gives = f"texts of {model.pp['max_len']} tokens"
    title = f"{canonical_name(name)}  {size[0]}×{size[1]} px, {gives}"
    rows = table(title, ["layer"], ["output", "parameters", "GFLOP"])
    for layer in summary.layers:
        rows.add_row(*_cells(layer))
    out = console()
    out.print(rows)
    counted = compiled_flops(model, size)
    out.print(f"  {summary.params:,} parameters, {4e-6 * summary.params:,.1f} MB in float32")
    out.print(
        f"  {summary.flops / 1e9:,.3f} GFLOP an image by formula (2 for each multiplication), and "
        f"{summary.elementwise / 1e9:,.3f} of norms, softmax and other single elements; "
        f"{counted / 1e9:,.3f} in the compiled program "
        f"({counted / (summary.flops + summary.elementwise) - 1:+.1%})",
        soft_wrap=True,
    )


def print_pretrained(pattern: str | None, *, as_json: bool) -> None:
    """Prints the published weights whose names are like a pattern; as JSON, all that is known.

    Raises:
      ConfigError: there are none.
    """
    found = catalogue.matching(pattern)
    if as_json:
        entries = [{**dataclasses.asdict(one), "aliases": one.aliases} for one in found]
        print(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    rows = table(None, ["name", "architecture", "data"], ["px", "classes", "top-1", "from"])
    rows.padding, rows.pad_edge, rows.box = (0, 1, 0, 0), False, None
    for entry in found:
        rows.add_row(*catalogue.row(entry))
    out = console()
    out.print(rows)
    licences = collections.Counter(entry.licence for entry in found)
    stated = ", ".join(f"{licence} ({count})" for licence, count in licences.items())
    out.print(
        f"\n{len(found)} published weights; licence: {stated}. top-1: percent on ImageNet-1k, as "
        "reported.\n* recommended by the official README. --json tells all, with sources.\n"
        "Use a name wherever weights are asked for: vit_jax inspect NAME",
        soft_wrap=True,
    )


def _cells(layer: Layer) -> tuple[str, ...]:
    times = f"{layer.count} × " if layer.count > 1 else ""
    work = f"{times}{layer.flops / 1e9:,.3f}" if layer.flops else ""
    shape = "×".join(str(n) for n in layer.output)
    return layer.name, shape, f"{times}{layer.params:,}", work
