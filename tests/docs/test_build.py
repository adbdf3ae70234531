"""The pages are built without a warning, and what is generated in them is what the code says."""

import os
import re
import subprocess
import sys

import pytest

import vit_jax
from tests.docs.pages import DOCS
from tests.golden import REPOSITORY
from vit_jax.checkpoints.catalogue import list_published
from vit_jax.commands.parser import make_parser
from vit_jax.models.zoo import list_models
from vit_jax.recipes import shipped
from vit_jax.settings import KEYS


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of pages, built in a process of its own: Sphinx changes the one it runs in."""
    pytest.importorskip("sphinx", reason="the extra docs")
    folder = tmp_path_factory.mktemp("pages")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    return folder


def text_of(built, page: str) -> str:
    """The text of a page, without its tags."""
    html = (built / f"{page}.html").read_text("utf-8")
    return re.sub(r"<[^>]+>", "", html).replace("&#x27;", "'").replace("&amp;", "&")


@pytest.mark.slow  # Sphinx imports, reads and writes everything: half a minute on a busy machine
def test_every_name_of_the_code_is_in_the_reference(built):
    for page, names in (
        ("settings", KEYS),
        ("models", list_models()),
        ("catalogue", [one.name for one in list_published()]),
        ("commands", make_parser()[1]),
        ("recipes", shipped()),
        ("api", vit_jax.__all__),
    ):
        text = text_of(built, f"reference/{page}")
        assert [name for name in names if name not in text] == [], page
        assert "generated:" not in text


@pytest.mark.slow  # needs the same build
def test_no_page_leads_nowhere(built):
    for page in sorted(built.rglob("*.html")):
        text = page.read_text("utf-8")
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
            assert (page.parent / target.split("?")[0]).exists(), f"{page.name}: {target}"


def test_every_picture_is_small_and_says_how_it_was_made():
    said = (DOCS / "pictures" / "README.md").read_text("utf-8")
    written = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    for picture in (DOCS / "pictures").glob("*.png"):
        assert f"| `{picture.name}` | `vit_jax " in said
        assert f"pictures/{picture.name})" in written
        assert picture.stat().st_size < 150_000


def test_nothing_generated_is_kept():
    assert "docs/_build/" in (REPOSITORY / ".gitignore").read_text()
    for page in DOCS.rglob("*.md"):
        assert len(page.read_text("utf-8").splitlines()) < 300, page
