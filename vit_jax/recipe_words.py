"""The words after a recipe's colon: `configs/compact_cifar.py:mcvit,cifar10,original`."""

import dataclasses
from collections.abc import Sequence

from vit_jax.errors import ConfigError, nearest

VARIANTS = ("sound", "original")


@dataclasses.dataclass(frozen=True)
class Word:
    """One of the words that a recipe takes.

    Attributes:
      name: what it is called in messages, in capitals.
      choices: what it may be; empty for anything.
      default: what it is where it is left out; None if it must be given.
    """

    name: str
    choices: Sequence[str] = ()
    default: str | None = None


# The same model and budget twice: trained as we would, or as the project it comes from did.
VARIANT = Word("VARIANT", VARIANTS, "sound")


def read_words(recipe: str, arg: str, *words: Word) -> list[str]:
    """Splits what stands after the colon at its commas, and fills in what is left out.

    Args:
      recipe: name of the recipe, for messages: "compact_cifar".
      arg: the text after the colon.
      words: what is expected, in order.

    Returns:
      One string for each of `words`.

    Raises:
      ConfigError: a word is missing, unknown, or too many.
    """
    given = arg.split(",") if arg else []
    shape = ",".join(f"[{word.name}]" if word.default is not None else word.name for word in words)
    shape = shape.replace(",[", "[,")
    where, usage = f"configs/{recipe}.py:{arg}", f"the recipe reads configs/{recipe}.py:{shape}"
    if len(given) > len(words):
        raise ConfigError(f"{where}: {given[len(words)]!r} is a word too many; {usage}")
    given += [""] * (len(words) - len(given))
    return [_checked(word, text, where, usage) for word, text in zip(words, given, strict=True)]


def _checked(word: Word, text: str, where: str, usage: str) -> str:
    known = ", ".join(word.choices)
    if not text and word.default is not None:
        return word.default
    if not text:
        raise ConfigError(f"{where}: {word.name} is missing{known and f' ({known})'}; {usage}")
    if word.choices and text not in word.choices:
        hint = nearest(text, word.choices)
        raise ConfigError(f"{where}: {word.name} {text!r} is none of {known}{hint}; {usage}")
    return text
