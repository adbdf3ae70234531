"""Runs what the pages say, in the sandbox, and checks what cannot be run there."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docs.pages import Block, commands, missing_files
from tests.docs.shortening import ENDS, never_run, shortened
from tests.golden import REPOSITORY
from vit_jax.commands.parser import TAKE_SETTINGS, flags_of, make_parser
from vit_jax.main import main
from vit_jax.recipes import load_config

_NEEDS_A_SHELL = re.compile(r"[|<>&;$*?`~{(]|^\w+=")


class Page:
    """What the blocks of one page share: names of Python, and what was printed.

    Args:
      read: returns what has been printed since it was last called.
    """

    def __init__(self, read: Callable[[], str]):
        self._read = read
        self._names: dict[str, Any] = {}
        self._printed = ""

    def check(self, block: Block) -> None:
        """Runs a block, or checks it as its mark says; one of an unknown kind is an error."""
        kinds = {"sh": self._shell, "python": self._python, "text": self._output}
        kinds |= {"json": lambda one: json.loads(one.text), "": self._tree}
        assert block.language in kinds, f"{block.where}: nothing checks {block.language!r} blocks"
        kinds[block.language](block)
        self._printed += self._read()

    def _shell(self, block: Block) -> None:
        if block.mark == "parsed":
            parse_shell(block.text)
            return
        wanted = (int(block.mark.removeprefix("exit ")),) if block.mark else None
        for command in commands(block.text):
            if never_run(command):
                parse_shell(command)
                continue
            code = self._run(command)
            self._printed += self._read()
            allowed = wanted or ENDS.get(command.split()[1 % len(command.split())], (0,))
            assert code in allowed, f"{block.where}: {command}: {code}\n{self._printed[-3000:]}"

    def _run(self, command: str) -> int:
        words = shlex.split(command, comments=True)
        if words[:3] == ["python", "-m", "vit_jax.main"]:
            words = ["vit_jax", *words[3:]]
        if words[0] == "vit_jax" and not _needs_a_shell(command):
            return called([*words[1:], *shortened(words[1:])])
        bare = re.sub(r"\s#.*", "", command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", bare], env=_with_shim(), text=True,
            capture_output=True, timeout=300,
        )  # fmt: skip
        self._printed += done.stdout + done.stderr
        return done.returncode

    def _python(self, block: Block) -> None:
        code = compile(block.text, block.where, "exec")
        if block.mark != "parsed":
            exec(code, self._names)
        else:
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom):
                    exec(ast.unparse(node), {})

    def _output(self, block: Block) -> None:
        """Every line was printed by the blocks before, whatever the numbers in it."""
        for line in filter(str.strip, block.text.splitlines()):
            pattern = _pattern(line)
            assert re.search(pattern, " ".join(self._printed.split())), (
                f"{block.where}: was not printed: {line}\n{self._printed[-3000:]}"
            )

    def _tree(self, block: Block) -> None:
        """A block of no language is a tree of files."""
        assert missing_files(block.text) == [], block.where


def called(arguments: list[str]) -> int:
    """Runs a command in this process, and returns its exit code."""
    try:
        return main(arguments)
    except SystemExit as stopped:  # of --help and --version
        return int(stopped.code or 0)


def parse_shell(text: str) -> None:
    """Checks a block without running it.

    The shell must understand it, and every command of ours in it be one that would begin: its flags
    exist, its recipe can be read, its settings are allowed. Extras that pip is to install exist,
    and so do the files of the repository that are named.
    """
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for command in commands(text):
        for found in re.finditer(r"(?:^|[\s/\"])(vit_jax \w.*)", command):
            _check_command(shlex.split(found[1].split('"')[0], comments=True)[1:])
        for extras in re.findall(r"(?:\.|vit_jax)\[([\w,]+)\]", command):
            unknown = set(extras.split(",")) - _extras()
            assert not unknown, f"{command}: no such extra: {unknown}"
        for file in re.findall(r"(?<![\w/.])(?:configs|benchmarks)/[\w/.]+", command):
            assert (REPOSITORY / file).exists(), f"{command}: no such file: {file}"


def _check_command(words: list[str]) -> None:
    parser, known = make_parser()
    options, rest = parser.parse_known_args(words)
    assert all(one.startswith(("--config.", "--noconfig.")) for one in rest), rest
    assert not rest or options.command in TAKE_SETTINGS, words
    assert options.command in known
    assert all(word.split("=")[0] in flags_of(known[options.command])
               for word in words if re.match(r"--(?!(no)?config\.)", word)), words  # fmt: skip
    if getattr(options, "config", None):
        load_config(options.config, rest)


def _extras() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def _needs_a_shell(command: str) -> bool:
    """Whether anything outside of quotes is the shell's to read."""
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|\s#.*", "", command)
    return bool(_NEEDS_A_SHELL.search(bare))


def _with_shim() -> dict[str, str]:
    """An environment in which `vit_jax` and `python` are those of this process."""
    folder = Path(os.environ["VIT_JAX_CACHE"]) / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, what in (("vit_jax", "-m vit_jax.main"), ("python", "")):
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        shim.chmod(0o755)
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": paths}


def _pattern(line: str) -> str:
    """A line as a pattern: any number for a number, anything for …, any space for spaces."""
    parts = re.split(r"(…|\d[\d.,:e+-]*|\s+)", line.strip())
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if part == "…":
        return ".*?"
    if re.fullmatch(r"\d[\d.,:e+-]*", part):
        return r"[\d][\d.,:e+-]*"
    return " ?" if part.isspace() else re.escape(part)
