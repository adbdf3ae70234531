"""Writes the reference from the code while the pages are built.

A page says `<!-- generated: NAME -->` where the text of one of the functions below belongs. So the
settings, models, weights, commands and recipes that the pages show are those of the code beside
them, and nothing generated is kept.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MARK = re.compile(r"<!-- generated: ([a-z ]+) -->")


def fill(text: str) -> str:
    """Returns a page with every mark replaced; a mark that nobody knows is a KeyError."""
    return MARK.sub(lambda mark: GENERATED[mark[1]](), text)


def settings() -> str:
    """Every setting: default, meaning, rule, and what may differ when a run goes on."""
    from vit_jax.settings import KEYS
    from vit_jax.settings.data import DATA
    from vit_jax.settings.model import MODEL
    from vit_jax.settings.texts import TEXTS
    from vit_jax.settings.training import TRAINING

    rooms = {"Data and augmentation": DATA, "Pretrained weights and model": MODEL}
    rooms |= {"Images with texts": TEXTS, "Training, devices and the run": TRAINING}
    parts = [f"{len(KEYS)} settings."]
    for title, keys in rooms.items():
        parts += [
            f"## {title}",
            _table(("setting", "default", "rule", "meaning"), map(_setting, keys)),
        ]
    return "\n\n".join(parts)


def _setting(path: str) -> tuple[str, ...]:
    from vit_jax.settings import FIXED, HARMLESS, KEYS

    key = KEYS[path]
    kind = f" ({key.kind.__name__})" if key.kind else ""
    rule = _words(key.rule.text) if key.rule else ""
    resumed = " *May differ when a run goes on.*" if path in HARMLESS else ""
    if path in FIXED:
        resumed = " *Cannot change when a run goes on.*"
    return f"`{path}`", f"`{key.default!r}`{kind}", rule, _words(key.meaning) + resumed


def models() -> str:
    """Every named model: its class, sizes and parameters."""
    from vit_jax.models.zoo import list_models

    head = ("name", "class", "image, px", "patch or stem", "width", "layers", "heads", "parameters")
    return _table(head, map(_model, list_models()))


def _model(name: str) -> tuple[str, ...]:
    from vit_jax.models.zoo import create_model, model_fields

    fields = model_fields(name)
    tower = fields.get("image", fields)
    encoder = tower.get("transformer", {})
    size = _native_size(name)
    stem = "ResNet" if tower.get("resnet") else tower.get("stem") or ""
    patch = "×".join(map(str, (tower.get("patches") or {}).get("size", ())))
    return (
        f"`{name}`",
        type(create_model(name)).__name__,
        str(size),
        f"{stem} {patch}".strip(),
        str(tower.get("hidden_size") or tower.get("hidden_dim")),
        str(encoder.get("num_layers") or tower.get("num_blocks")),
        str(encoder.get("num_heads", "")),
        f"{_parameters(name, size) / 1e6:,.2f} M",
    )


def _native_size(name: str) -> int:
    """The side in pixels that a model was made for; 224 where its name says nothing."""
    if name.startswith(("vit_lite", "cvt", "cct")):
        return int(name.rpartition("_")[2])
    return 32 if name.startswith("compact") else 224


def _parameters(name: str, size: int) -> int:
    """Parameters with 1000 classes, by shapes alone; blocks as a loop are traced once."""
    import jax

    from vit_jax.models.inputs import example_inputs
    from vit_jax.models.zoo import create_model

    model = create_model(name)
    if "scan_blocks" in vars(model):
        model = create_model(name, scan_blocks=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *example_inputs(model, (size, size)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def catalogue() -> str:
    """The published weights, and the LiT models."""
    from vit_jax.checkpoints.catalogue import list_published
    from vit_jax.checkpoints.released_lit import LICENCE, RELEASED

    head = ("name", "model", "pixels", "trained on", "classes", "top-1, %", "licence", "where")
    rows = [
        (
            f"`{one.name}`{' ★' if one.recommended else ''}",
            one.architecture or "",
            str(one.image_size),
            one.data,
            str(one.num_classes),
            "" if one.accuracy is None else f"{one.accuracy:.1f}",
            one.licence,
            "; ".join(f"`{_place(source.url)}`" for source in one.sources),
        )
        for one in list_published()
    ]
    lit = [
        (f"`{one.name}`", one.tokenizer, str(one.zero_shot or ""), LICENCE, f"`{one.weights}`")
        for one in RELEASED
    ]
    return "\n\n".join(
        [
            f"{len(rows)} files of weights. {len({row[1] for row in rows} - {''})} architectures.",
            _table(head, rows),
            "## Image-text models (LiT)",
            _table(("name", "tokenizer", "zero-shot top-1, %", "licence", "where"), lit),
        ]
    )


def _place(url: str) -> str:
    """A location without the file name, which says the same again."""
    return url.removesuffix("/model.safetensors") if url.startswith("hf://") else url


def commands() -> str:
    """The help of every command, and of the commands below it, as a terminal of 80 shows it."""
    from vit_jax.commands.parser import make_parser, parsers_below

    os.environ["COLUMNS"] = "80"
    overview, known = make_parser()
    parts = [_code(overview.format_help())]
    for name, parser in known.items():
        parts += [f"## {name}", _code(parser.format_help())]
        for below in parsers_below(parser):
            parts += [f"### {name} {below.prog.split()[-1]}", _code(below.format_help())]
    return "\n\n".join(parts)


def recipes() -> str:
    """The opening words of every recipe."""
    import ast

    from vit_jax.recipes import shipped

    parts = []
    for name, file in shipped().items():
        words = ast.get_docstring(ast.parse(file.read_text("utf-8")))
        assert words, f"{file} does not say what it is"
        parts += [f"## {name}", _prose(words)]
    return "\n\n".join(parts)


def exit_codes() -> str:
    """The errors with their exit codes, from the classes."""
    from vit_jax import errors

    kinds = [
        one
        for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, errors.VitJaxError)
    ]
    rows = [
        (str(one.exit_code), f"`{one.__name__}`", _words(inspect.getdoc(one) or ""))
        for one in kinds[1:]  # the first is what all of them are
    ]
    return _table(("exit code", "error", "when"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    head = list(head)
    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)])


def _words(text: str) -> str:
    """Text of the code as Markdown takes it: on one line, its stars as they are."""
    return _escaped(" ".join(text.split()))


def _prose(text: str) -> str:
    """A docstring as Markdown: what stands four spaces in is code in both."""
    lines = (line if line.startswith("    ") else _escaped(line) for line in text.splitlines())
    return "\n".join(lines)


def _escaped(line: str) -> str:
    """Stars outside of `code` are stars."""
    parts = line.split("`")
    return "`".join(p if i % 2 else p.replace("*", r"\*") for i, p in enumerate(parts))


def _code(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings,
    "models": models,
    "catalogue": catalogue,
    "commands": commands,
    "recipes": recipes,
    "exit codes": exit_codes,
}


def outward(text: str, page: Path, root: Path) -> str:
    """Returns a page whose links to files outside of `root` bring those files along."""

    def link(found: re.Match[str]) -> str:
        words, place = found.groups()
        target = (page.parent / place).resolve()
        if target.is_relative_to(root) or not target.is_file():
            return found[0]
        return f"{{download}}`{words.replace('`', '')} <{place}>`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(?:#[\w-]+)?\)", link, text)


def _on_source_read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    source[0] = outward(fill(source[0]), page, Path(app.srcdir).resolve())


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}
