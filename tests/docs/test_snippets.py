"""Every command and snippet of the README and the pages is run, shortened as one table says.

A page is a test, and a process (`one_page.py`): its blocks run one after another in a folder of
small stand-ins (`sandbox.py`), where weights of any published name are a narrow model out of the
cache, and nothing is downloaded. How commands are shortened stands in `shortening.py`, and only
there: two steps, small batches, small models; what installs, uploads or needs a cluster is parsed.

Blocks that cannot run here (another machine's hardware, a registry) have a comment above them in
the page, `<!-- checked: parsed -->`: bash reads them, and each command of ours must be one that
would start. `<!-- checked: exit 2 -->` runs a block that is to fail. A block of text is what was
printed: each of its lines, numbers aside, must come out of the page. Anything else fails.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import xla
from tests.docs import pages, sandbox
from tests.docs.running import Page
from tests.golden import REPOSITORY
from vit_jax.errors import ConfigError

NAMES = [str(page.relative_to(REPOSITORY)) for page in pages.pages()]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """The sandbox as every page finds it."""
    root = tmp_path_factory.mktemp("pages")
    sandbox.prepare(root)
    return root


@pytest.mark.slow  # minutes in all: every command of every page is run
@pytest.mark.parametrize("name", NAMES)
def test_every_block_does_what_the_page_says(name: str, stocked: Path, tmp_path: Path):
    if not any(pages.blocks(REPOSITORY / name)):
        return
    folder = sandbox.copy(stocked, tmp_path / "here")
    environment = os.environ | {
        "VIT_JAX_CACHE": str(folder / "cache"),
        "VIT_JAX_OFFLINE": "1",
        "HOME": str(folder),  # where TFDS looks for what it has prepared
        "COLUMNS": "100",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    environment["XLA_FLAGS"] = xla.flags()  # one device, as a reader has
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.one_page", str(REPOSITORY / name)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.parametrize("name", NAMES)
def test_no_block_escapes_the_reader(name: str):
    page = REPOSITORY / name
    assert pages.unread(page) == []
    for block in pages.blocks(page):
        assert block.mark is None or re.fullmatch("|".join(pages.MARKS), block.mark), block.where


def check(language: str, text: str, mark: str | None = None, printed: str = "") -> None:
    """Checks a block of a page that has printed this."""
    read = iter([printed, "", ""])
    page = Page(lambda: next(read))
    page.check(pages.Block(pages.README, 1, "python", "", None))
    page.check(pages.Block(pages.README, 1, language, text, mark))


def test_a_block_without_a_check_fails():
    with pytest.raises(AssertionError, match="nothing checks 'yaml' blocks"):
        check("yaml", "a: 1\n")


def test_what_is_parsed_must_be_ready_to_start():
    check(
        "sh",
        "sbatch configs/launch/slurm.sh && vit_jax train --config=digits --workdir=x",
        "parsed",
    )
    for wrong in (
        "vit_jax train --config=digts --workdir=x",
        "vit_jax train --config=digits --workdir=x --config.base_rl=1",
        "srun vit_jax train --config=digits --workdri=x",
        "sbatch configs/launch/slrm.sh",
        "pip install '.[cdua]'",
        "if then",
    ):
        with pytest.raises((AssertionError, ConfigError, subprocess.CalledProcessError)):
            check("sh", wrong, "parsed")


def test_what_installs_is_never_run():
    check("sh", "pip install '.[cuda]'")
    with pytest.raises(AssertionError, match="no such extra"):
        check("sh", "pip install '.[cdua]'")


def test_output_that_was_not_printed_fails():
    printed = "step 2/2\naccuracy 12.5 % of 8\n"
    check("text", "accuracy  98.59 % of …\n", printed=printed)
    for wrong in ("loss 98.59 %\n", "accuracy many\n"):
        with pytest.raises(AssertionError, match="was not printed"):
            check("text", wrong, printed=printed)


def test_a_command_that_fails_fails_the_page_unless_it_is_to_fail():
    check("sh", "vit_jax trian", "exit 2")
    check("sh", "echo a | grep b", "exit 1")
    for command in ("vit_jax trian", "echo a | grep b"):
        with pytest.raises(AssertionError, match=command.replace("|", ".")):
            check("sh", command)
