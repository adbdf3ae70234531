"""Fonts for the names of classes and files, which people write in every script.

Pictures are lettered in DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic,
Arabic and Hebrew; what it lacks, above all Chinese, Japanese and Korean, is taken from a font that
the machine has.
"""

import functools
import importlib.util
import logging
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

logger = logging.getLogger("vit_jax")

_NOT_PLAIN = ("bold", "italic", "oblique", "black", "heavy", "thin", "light")


@functools.cache
def default_font() -> Path:
    """Returns the file of DejaVu Sans."""
    spec = importlib.util.find_spec("matplotlib")  # not imported, which takes a while
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def fallbacks(texts: Iterable[str]) -> list[Path]:
    """Returns the files of the fewest other fonts that have what DejaVu Sans lacks of the texts.

    Letters that no font here has are said in the log, once: they are drawn as empty boxes.
    """
    letters = frozenset("".join(texts))
    return [] if "".join(letters).isascii() else list(_fallbacks(letters))


def font_of(text: str, others: Iterable[Path]) -> Path:
    """Returns that of DejaVu Sans and `others` which has the most letters of a text."""
    if text.isascii():
        return default_font()
    return max((default_font(), *others), key=lambda font: len(_has(font, frozenset(text))))


def installed_fonts() -> list[Path]:
    """Returns the files of this machine's fonts, upright ones of common weight first."""
    from matplotlib.font_manager import findSystemFonts

    found = sorted(map(Path, findSystemFonts()))
    return sorted(found, key=lambda path: any(word in path.name.lower() for word in _NOT_PLAIN))


@functools.cache
def _fallbacks(letters: frozenset[str]) -> tuple[Path, ...]:
    shown = frozenset(letter for letter in letters if unicodedata.category(letter)[0] != "C")
    lacking = shown - _has(default_font(), shown)
    if not lacking:
        return ()
    having = {path: _has(path, lacking) for path in installed_fonts()}
    chosen = []
    while lacking and having:
        best = max(having, key=lambda path: len(having[path] & lacking))
        if not having[best] & lacking:
            break
        chosen.append(best)
        lacking -= having[best]
    if lacking:
        _say_once("".join(sorted(lacking)[:20]))
    return tuple(chosen)


@functools.cache
def _say_once(lacking: str) -> None:
    logger.warning(
        "no font on this machine has %s: pictures show boxes there; install one of that script "
        "(Noto Sans CJK has Chinese, Japanese and Korean)",
        lacking,
    )


def _has(font: Path, letters: frozenset[str]) -> frozenset[str]:
    opened = _open(font)
    if opened is None:
        return frozenset()
    return frozenset(letter for letter in letters if opened.get_char_index(ord(letter)))


def _open(path: Path) -> Any:
    """Returns a font, or None where it cannot be drawn in any size, or not be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):
        return None
    return font if font.scalable else None
