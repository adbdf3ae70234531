"""The words of ImageNet's classes, for weights and folders without; their source is in the file."""

import functools
import importlib.resources
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path


@functools.cache
def class_names() -> tuple[str, ...]:
    """Returns the words of the 1,000 classes of ImageNet-1k, in the order of the logits.

    That is the order of their WordNet numbers, which all published weights share. Two classes, a
    bird and a machine, are both named "crane".
    """
    return tuple(_words_by_number().values())


def in_words(names: Sequence[str], words: Path) -> tuple[str, ...]:
    """Returns classes that are named by WordNet numbers by their first word, to be shown.

    Of two that share it the number stands behind; what is no number, or an unknown one, stays.

    Args:
      names: of the classes, such as "n01440764".
      words: the file of TinyImageNet with a number, a tab and its words in each line; where there
        is none, those of ImageNet-1k are taken.
    """
    if not any(re.fullmatch(r"n\d{8}", name) for name in names):
        return tuple(names)
    known = _words_by_number()
    if words.is_file():
        lines = words.read_text("utf-8", "replace").splitlines()
        known = {number: said for number, _, said in (line.partition("\t") for line in lines)}
    found = [known.get(name, name).partition(",")[0] for name in names]
    count = Counter(found)
    pairs = zip(found, names, strict=True)
    return tuple(said if count[said] == 1 else f"{said} ({name})" for said, name in pairs)


def _words_by_number() -> Mapping[str, str]:
    text = (
        importlib.resources.files("vit_jax.data")
        .joinpath("imagenet_classes.txt")
        .read_text("utf-8")
    )
    lines = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {number: words for number, _, words in lines}
