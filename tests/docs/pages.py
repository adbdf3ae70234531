"""Reads pages of documentation: which blocks they have, and how each is to be checked."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from tests.golden import REPOSITORY

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"

# What a comment above a block may say, in the place of running it.
MARKS = ("parsed", r"exit \d+", r"fails: .+")

_FENCE = re.compile(
    r"(?:^<!-- checked: (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      page: its file.
      line: that of its first line.
      language: what stands after the fence.
      text: what stands in it.
      mark: how it is checked instead of being run; None runs it.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Returns the README and all pages that somebody wrote."""
    return [README, *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]


def blocks(page: Path) -> Iterator[Block]:
    """Yields the blocks of a page, directives of Sphinx left out."""
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        language = found["language"].strip()
        if not language.startswith("{"):
            line = text.count("\n", 0, found.start("text")) + 1
            yield Block(page, line, language, found["text"], found["mark"])


def unread(page: Path) -> list[str]:
    """Returns fences and marks that `blocks` does not see: indented, unclosed, misspelt."""
    rest = _FENCE.sub("", page.read_text("utf-8"))
    return [line for line in rest.splitlines() if "```" in line or "<!-- checked" in line]


def commands(text: str) -> Iterator[str]:
    """Yields the commands of a shell block: a line each, those with a backslash put together."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def missing_files(tree: str) -> list[str]:
    """Returns what an annotated tree names and the repository does not have.

    A name that ends in .py may stand anywhere in the package; a folder that begins a line lies at
    the top, or, where it is indented, in the package.
    """
    names = re.findall(r"[\w/]+\.py", tree)
    missing = [name for name in names if not list((REPOSITORY / "vit_jax").rglob(name))]
    for indent, folder in re.findall(r"^( *)([\w/]+)/(?=\s)", tree, flags=re.MULTILINE):
        place = REPOSITORY / "vit_jax" if indent else REPOSITORY
        missing += [] if (place / folder).is_dir() else [folder]
    return missing
