"""What `vit_jax models` prints: names, what one model is made of, the published weights."""

import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from vit_jax.checkpoints import catalogue, released_lit
from vit_jax.errors import ConfigError
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
    lits = released_lit.matching(pattern)
    found = [] if lits and not _any_published(pattern) else catalogue.matching(pattern)
    if as_json:
        entries = [{**dataclasses.asdict(one), "aliases": one.aliases} for one in found]
        print(json.dumps([*entries, *map(_lit_json, lits)], indent=2, ensure_ascii=False))
        return
    if found:
        _print_classifiers(found)
    if lits:
        _print_lits(lits)


def _any_published(pattern: str | None) -> bool:
    try:
        return bool(catalogue.matching(pattern))
    except ConfigError:
        return False


def _lit_json(entry: released_lit.ReleasedLit) -> dict[str, Any]:
    places = {"sources": [entry.weights], "vocabulary": entry.vocabulary}
    licence = {"licence": released_lit.LICENCE, "licence_source": released_lit.LICENCE_SOURCE}
    return {**dataclasses.asdict(entry), **places, **licence}


def _print_lits(lits: Sequence[released_lit.ReleasedLit]) -> None:
    rows = table(None, ["images and texts", "tokens"], ["zero-shot", "from"])
    rows.padding, rows.pad_edge, rows.box = (0, 1, 0, 0), False, None
    for entry in lits:
        score = "" if entry.zero_shot is None else f"{entry.zero_shot:.1f}"
        rows.add_row(entry.name, entry.tokenizer, score, "gs")
    out = console()
    out.print(rows)
    out.print(
        f"\n{len(lits)} LiT models; licence: {released_lit.LICENCE}. zero-shot: top-1, percent on "
        "ImageNet-1k, as reported.\nEach has a vocabulary beside it, which is found by its name: "
        "vit_jax zeroshot --checkpoint=NAME",
        soft_wrap=True,
    )


def _print_classifiers(found: Sequence[catalogue.Published]) -> None:
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
