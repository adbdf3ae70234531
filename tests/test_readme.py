"""What the README promises of itself. (Its test command is what `.ci/run` calls.)

That every command in it does what it says is for `tests/docs/test_snippets.py`.
"""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs import pages


def _shell_blocks() -> list[str]:
    return [block.text for block in pages.blocks(pages.README) if block.language == "sh"]


def test_it_opens_with_the_two_commands_on_one_line_each():
    train, test = (block.strip().splitlines() for block in _shell_blocks()[:2])
    assert len(train) == len(test) == 1
    assert "python3 -m venv .venv" in train[0]
    assert train[0].endswith("vit_jax train --config=configs/digits.py --workdir=runs/digits")
    assert test[0].endswith(".venv/bin/pytest")


@pytest.mark.slow  # the whole first run that the README promises
def test_first_command_trains_to_its_score(tmp_path):
    command = shlex.split(_shell_blocks()[0].split("&&")[-1])
    assert command[:2] == [".venv/bin/vit_jax", "train"]
    # As a user has it: on the one CPU device, without the virtual ones of the other tests.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "vit_jax.main", *command[1:]],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = (tmp_path / "runs/digits/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["test_accuracy"] >= 0.97


def test_tree_names_real_files():
    (tree,) = (block.text for block in pages.blocks(pages.README) if block.language == "")
    assert pages.missing_files(tree) == []


def test_every_command_is_named_and_every_named_one_exists():
    from vit_jax.commands.parser import make_parser

    _, commands = make_parser()
    run = re.findall(r"^vit_jax (\w+)", "\n".join(_shell_blocks()), flags=re.MULTILINE)
    assert set(run) <= set(commands)
    said = " ".join(re.findall(r"`([^`\n]+)`", pages.README.read_text("utf-8")))
    assert set(commands) <= set(re.findall(r"\w+", said))
