"""Every message that the page of troubleshooting quotes is one that the code still gives."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS
from tests.golden import REPOSITORY

QUOTED = re.findall(
    r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text("utf-8"), flags=re.MULTILINE
)
HOLE = "\0"  # what a message has in the place of a value
LEAST = 12  # letters of a message that are quoted beside what changes


def texts(tree: ast.AST) -> Iterator[str]:
    """Yields every text of a file; adjacent strings are one for Python already."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
            yield "".join(map(str, parts))


@pytest.fixture(scope="module")
def known() -> list[str]:
    files = sorted((REPOSITORY / "vit_jax").rglob("*.py"))
    return [text for file in files for text in texts(ast.parse(file.read_text("utf-8")))]


def given(quoted: str, known: list[str]) -> bool:
    """Whether a message of the code has the parts of a quoted one, in their order."""
    parts = [re.escape(part) for part in quoted.split("…") if part.strip()]
    pattern = re.compile(".*".join(parts), flags=re.DOTALL)
    return any(pattern.search(text.replace("{", "").replace("%s", HOLE)) for text in known)


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_message_is_still_given(quoted, known):
    assert max(len(part) for part in quoted.split("…")) >= LEAST, "too little of it to be found"
    assert given(quoted, known), "no message of the code reads so any more"


def test_a_message_that_nobody_gives_is_noticed(known):
    assert len(QUOTED) > 20
    assert not given("config.batch=… must be larger than …", known)
    assert not given("(…); the steps before are untouched; saving step …", known)
