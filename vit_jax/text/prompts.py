"""Prompts: what a class is called in sentences, and one embedding of them all.

A class is told by the mean of the embeddings of its name in several templates (Radford et al. 2021,
arXiv:2103.00020, section 3.1.4), as the LiT paper does too (arXiv:2111.07991, section 5).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vit_jax.errors import ConfigError, DataError, nearest

PLACE = "{}"  # of the name in a template

TEMPLATES = (
    "a photo of a {}",
    "a photo of the {}",
    "a close-up of a {}",
    "a picture of a small {}",
    "a picture of a large {}",
    "{}",
)


def spoken(name: str) -> str:
    """Returns a class name as a text would have it: "tabby_cat" is "tabby cat"."""
    return " ".join(name.replace("_", " ").split())


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Reads names of classes, one a line, in the order of the classes; empty lines do not count.

    Raises:
      DataError: no such file, or no name in it.
    """
    return _lines(path, "names of classes")


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Reads templates, one a line, with "{}" in the place of the name.

    Raises:
      DataError: no such file, or no template in it.
      ConfigError: a template without a place for the name.
    """
    found = _lines(path, "templates")
    check_templates(found, str(path))
    return found


def check_templates(templates: Sequence[str], where: str) -> None:
    """Raises `ConfigError` unless there are templates, each with a place for the name."""
    if not templates:
        raise ConfigError(f"{where}: no templates; give at least one, such as 'a photo of a {{}}'")
    for template in templates:
        if PLACE not in template:
            raise ConfigError(
                f"{where}: {template!r} has no {PLACE} in the place of the name, as in "
                "'a photo of a {}'"
            )


def prompts_of(classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """Returns every class in every template: those of the first class, then of the second …"""
    return [template.replace(PLACE, name) for name in classes for template in templates]


def class_embeddings(
    prompts: Float[np.ndarray, "p d"], num_classes: int
) -> Float[np.ndarray, "k d"]:
    """Returns one embedding of length 1 a class: the mean of those of its prompts, normalised.

    Args:
      prompts: embeddings of `prompts_of`, each of length 1.
      num_classes: k, which divides p.
    """
    grouped = prompts.reshape(num_classes, -1, prompts.shape[-1]).astype(np.float64)
    mean = grouped.mean(axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return (mean / np.maximum(length, 1e-8)).astype(np.float32)


def _lines(path: str | Path, what: str) -> tuple[str, ...]:
    file = Path(path).expanduser()
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        beside = [one.name for one in file.parent.iterdir()] if file.parent.is_dir() else []
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        hint = "" if file.exists() else nearest(file.name, beside)
        raise DataError(f"{path}: cannot be read: {reason}{hint}") from error
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise DataError(f"{path}: holds no {what}; it must have one a line")
    return lines
