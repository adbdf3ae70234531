"""The recipe of a run as a file: what was chosen, and why, in the form of those in configs/."""

import hashlib
import json
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vit_jax.checkpoints.atomic import replacing
from vit_jax.choosing.rules import Choice
from vit_jax.config import as_tuple
from vit_jax.workdir import Workdir

NAME = "recipe.py"
_WIDTH, _INDENT = 100, " " * 4
_MARK = "# As chosen; once edited, this file is never written over: "

_ABOUT = (
    "Written by `vit_jax finetune`, which found: {found}. Each setting says why it is as it is. "
    "Edit what you like, and train it in another workdir by the command above; vit_jax/settings "
    "explains all settings that there are."
)
_FILE = '''"""Fine-tunes {weights} on the images in {folder}.

    {again}

{about}
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the settings."""
    return ConfigDict(
{settings}
    )
'''


def write_recipe(place: Workdir, choices: Sequence[Choice], found: str) -> Path:
    """Writes the recipe into a workdir, whole or not at all; returns where.

    Raises:
      CheckpointError: it cannot be written.
    """
    place.root.mkdir(parents=True, exist_ok=True)
    with replacing(place.root / NAME) as file:
        file.write(recipe_text(choices, place.given, found).encode())
    return place.root / NAME


def recipe_text(choices: Sequence[Choice], workdir: str, found: str) -> str:
    """Returns the file.

    Args:
      choices: the settings, by their dotted names.
      workdir: of the run, as the user wrote it.
      found: what the settings were chosen for, in a few words.
    """
    values = {choice.setting: choice.value for choice in choices}
    recipe, other = shlex.quote(f"{workdir}/{NAME}"), shlex.quote(f"{workdir}_again")
    again = f"vit_jax train --config={recipe} --workdir={other}"
    text = _FILE.format(
        weights=_in_docstring(values["model_or_filename"]),
        folder=_in_docstring(values["dataset"]),
        again=_in_docstring(again),
        about=textwrap.fill(_ABOUT.format(found=found), _WIDTH),
        settings="\n".join(_lines(_nested(choices), 2)).removesuffix(","),
    )
    return f"{text}\n\n{_MARK}{_digest(text)}\n"


def is_as_chosen(text: str) -> bool:
    """Returns whether nobody has edited a recipe since it was written."""
    content, _, digest = text.rpartition(f"\n\n{_MARK}")
    return bool(content) and digest == f"{_digest(content)}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _nested(choices: Sequence[Choice]) -> dict[str, Any]:
    """Returns the choices as a tree, each at the place of its setting."""
    tree: dict[str, Any] = {}
    for choice in choices:
        *parents, name = choice.setting.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = choice
    return tree


def _lines(tree: dict[str, Any], depth: int) -> Iterator[str]:
    indent, inner = _INDENT * depth, _INDENT * (depth + 1)
    yield f"{indent}{{"
    for name, value in tree.items():
        if isinstance(value, Choice):
            yield from textwrap.wrap(
                value.why, _WIDTH, initial_indent=f"{inner}# ", subsequent_indent=f"{inner}# "
            )
            yield f'{inner}"{name}": {_literal(value.value)},'
        else:
            first, *others = _lines(value, depth + 1)
            yield f'{inner}"{name}": {first.lstrip()}'
            yield from others
    yield f"{indent}}},"


def _literal(value: Any) -> str:
    """Returns Python for a value."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else ascii(value)
    return repr(as_tuple(value))


def _in_docstring(text: str) -> str:
    """Returns a text that ends no docstring and starts no escape in one."""
    shown = text if text.isprintable() else ascii(text)
    return shown.replace("\\", "\\\\").replace('"', '\\"')
