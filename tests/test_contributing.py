"""What contributors and their tools read: pages, versions, forms and the citation are right."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import vit_jax
from tests.golden import REPOSITORY

PAGES = sorted((REPOSITORY / "docs" / "howto").glob("add_a_*.md"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
_PATH = re.compile(r"`((?:vit_jax|tests|configs|benchmarks|docs)/[\w./]+|README\.md)`")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text())


def test_there_is_a_page_for_each_kind_of_addition():
    assert [page.stem for page in PAGES] == [
        *("add_a_format", "add_a_model", "add_a_recipe", "add_a_source"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page):
    paths = _PATH.findall(page.read_text())
    assert len(paths) >= 5
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


# What a page calls a name in a file ("a line in `MLPS`") is in a file that the page names.
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_in_code_that_a_page_gives_are_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    code = "".join((REPOSITORY / path).read_text() for path in _PATH.findall(text)
                   if (REPOSITORY / path).is_file())  # fmt: skip
    for name in re.findall(r"`(_?[A-Z][A-Z_]{3,}|test_\w+|layout_of|open_dataset|_table)`", text):
        assert name == "NAME" or re.search(rf"\b{name}\b", code), name


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_between_pages_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (REPOSITORY / name).read_text())
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_hooks_have_the_versions_of_the_extra_dev():
    pinned = dict(
        line.split("==") for line in PROJECT["optional-dependencies"]["dev"] if "==" in line
    )
    assert pinned.keys() == {"ruff", "pyright"}
    hooks = {hook["id"]: repo for repo in read_yaml(".pre-commit-config.yaml")["repos"]
             for hook in repo["hooks"]}  # fmt: skip
    assert hooks.keys() == {"ruff-check", "ruff-format", "pyright"}
    assert hooks["ruff-check"]["rev"] == hooks["ruff-format"]["rev"] == f"v{pinned['ruff']}"
    assert hooks["pyright"]["repo"] == "local"  # that of the environment, which `dev` pins


def test_ci_runs_what_everybody_runs():
    workflow = read_yaml(".github/workflows/ci.yml")
    steps = workflow["jobs"]["checks"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert (REPOSITORY / ".ci" / "run").is_file()
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert lowest in workflow["jobs"]["checks"]["strategy"]["matrix"]["python"]


@pytest.mark.parametrize("name", ["bug", "question", "recipe"])
def test_issue_forms_have_what_github_asks_for(name):
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form.keys() >= {"name", "description", "body"}
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in ("textarea", "input", "dropdown", "checkboxes", "markdown")
        assert part["attributes"]["label"]
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_the_citation_is_valid_and_of_this_version():
    citation = read_yaml("CITATION.cff")
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == vit_jax.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper.keys() >= {"type", "title", "authors", "year", "url"}
    assert len(paper["authors"]) == 12
    assert paper["url"].endswith("/2010.11929")


def test_the_changelog_begins_with_what_is_not_released():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert sections[0] == "Unreleased"
    kinds = set(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_set_up_is_two_commands():
    block = re.search(r"```sh\n(.*?)```", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].strip().splitlines()) == 2
    for extra in re.findall(r"\.\[(\w+)\]", block[1]):
        assert extra in PROJECT["optional-dependencies"]


def test_pages_name_no_place_of_their_author():
    names = ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", ".pre-commit-config.yaml")
    for path in [*PAGES, *(REPOSITORY / name for name in names)]:
        assert not re.search(r"(?<![\w.])/(home|tmp|root|work)/", Path(path).read_text()), path
