"""The command line as a shell sees it: help that fits, nothing slow, completion, colour."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.golden import REPOSITORY
from vit_jax import __version__
from vit_jax.commands.parser import make_parser, parsers_below
from vit_jax.main import main
from vit_jax.settings import KEYS
from vit_jax.tables import console, table

_, COMMANDS = make_parser()
HEAVY = ("jax", "flax", "optax", "orbax", "PIL", "cv2", "matplotlib", "tensorflow", "sklearn")
HEAVY += ("starlette", "uvicorn")


def help_of(capsys, *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_overview_fits_a_small_terminal_and_begins_with_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(capsys)
    assert len(lines) <= 23  # of 24: the prompt needs one
    assert max(map(len, lines)) <= 80
    named = {line.split()[0] for line in lines if line.startswith("  ")}
    assert named == set(COMMANDS)
    assert sum(line.startswith("example: vit_jax ") for line in lines) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_fits_a_screen_and_has_an_example(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    kinds = [parser.prog.split()[-1] for parser in parsers_below(COMMANDS[name])]
    for arguments in ([name], *([name, kind] for kind in kinds)):
        lines = help_of(capsys, *arguments)
        assert len(lines) <= 40, arguments
        assert max(map(len, lines)) <= 80, arguments
        assert re.search(r"example.*vit_jax", " ".join(lines)), arguments


def _end(out, *arguments: str) -> tuple[int, str]:
    """Returns the exit code of a command that prints to a file, and what it says on the errors."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "vit_jax.main", *arguments]
    done = subprocess.run(
        command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment
    )
    return done.returncode, done.stderr


# What fits the buffer of standard output, by print, argparse and rich; the last does not fit.
PRINTING = [["models", "--pretrained", "deit_tiny", "--json"], ["--help"], ["models"],
            ["models", "--pretrained"]]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("arguments", PRINTING)
def test_a_reader_that_is_gone_ends_a_command_in_silence(arguments):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as out:
        assert _end(out, *arguments) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("arguments", PRINTING)
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "wb") as out:
        code, said = _end(out, *arguments)
    assert (code, said.count("\n")) == (3, 1)
    assert said.startswith("vit_jax: error: ")
    assert "No space left on device" in said


@pytest.mark.parametrize("columns", ["10", "40", "300"])
def test_help_bears_any_width(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for name in (None, *COMMANDS):
        lines = help_of(capsys, *filter(None, [name]))
        assert any("vit_jax" in line for line in lines)


# What a person may type wrongly, that is told before anything heavy is imported.
MISTAKES = [
    *([], ["trian"], ["train"], ["train", "--config=digts", "--workdir=x"]),
    ["train", "--config=digits", "--workdir=x", "--config.base_rl=1"],
    *(["evaluate"], ["evaluate", "--workdir=missing"], ["evaluate", "--workdr=x"]),
    *(["predict", "--checkpoint=x"], ["predict", "--checkpoint=x", "a", "--json", "--csv"]),
    ["predict", "--checkpoint=x", "a", "--features=a.txt"],
    *(["finetune"], ["finetune", "no_such_folder"], ["finetune", "vit_jax", "--minutes=0"]),
    *(["finetune", "configs"], ["finetune", "photos", "--workdr=x"]),
    *(["convert", "a", "b", "--to=tim"], ["convert", "a", "b", "--to=timm", "--private"]),
    *(["export", "a", "--to=onx"], ["export", "a", "--to=safetensors", "--preprocess=inside"]),
    *(["demo"], ["demo", "a", "--top=0"], ["demo", "a", "--port=70000"]),
    *(["models", "--json"], ["models", "--size=big"], ["pack", "a", "b", "--size=0"]),
    *(["report", "a", "--output=a.txt"], ["benchmark", "trian", "--config=digits"]),
    *(["benchmark", "train", "--config=digts"], ["completion", "fish"]),
]


# Prints, for each list of arguments, the exit code and what has been imported until then.
LOADED = """
import contextlib, io, json, sys
from vit_jax.main import main
found, nowhere = {}, io.StringIO()
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        try:
            code = main(arguments)
        except SystemExit as stopped:
            code = stopped.code
    heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    found[" ".join(arguments)] = [code, heavy]
print(json.dumps(found))
"""


def test_help_and_usage_errors_import_nothing_heavy():
    helps = [[*name.split(), "--help"] for name in COMMANDS]
    helps += [["benchmark", kind, "--help"] for kind in ("input", "plan")] + [["--version"]]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(helps + MISTAKES), json.dumps(HEAVY)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {name: heavy for name, (_, heavy) in found.items() if heavy} == {}
    assert {name for name, (code, _) in found.items() if code == 0} == {
        " ".join(arguments) for arguments in helps
    }
    assert {found[" ".join(one)][0] for one in MISTAKES} == {2, 3}


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"vit_jax {__version__}\n"


@pytest.fixture
def script(capsys):
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def completed(script: str, *words: str) -> list[str]:
    """Returns what bash would offer for the last of these words."""
    function = re.findall(r"complete .*-F (\S+) ", script)[-1]
    line = " ".join(words)
    asked = (
        f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE={line!r}; COMP_POINT={len(line)}; "
        f'{function} vit_jax {words[-1]!r} {words[-2]!r}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True)
    return sorted(word.strip() for word in done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_flags_choices_and_settings(script):
    assert completed(script, "vit_jax", "") == sorted(COMMANDS)
    assert completed(script, "vit_jax", "pre") == ["predict"]
    assert completed(script, "vit_jax", "predict", "--che") == ["--checkpoint"]
    assert completed(script, "vit_jax", "export", "--preprocess", "b") == ["beside"]
    assert completed(script, "vit_jax", "benchmark", "in") == ["infer", "input"]
    offered = completed(script, "vit_jax", "train", "--config.aug")
    assert offered == sorted(f"--config.{key}" for key in KEYS if key.startswith("aug"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_files(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.npz").touch()
    (tmp_path / "runs").mkdir()
    assert completed(script, "vit_jax", "inspect", "wei") == ["weights.npz"]


def test_zsh_has_a_script_of_its_own(capsys):
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef vit_jax")
    for name in COMMANDS:
        assert name in script
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, None, True), (True, "1", False), (False, None, False)],
)
def test_colour_is_for_terminals_that_want_it(terminal, no_color, coloured, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    made = table("a title", ["name"], ["figure"])
    made.add_row("[red]name[/red]", "1", style="red")
    console().print(made)
    assert "[red]name[/red]" in stream.getvalue()
    assert bool(re.search(r"\x1b\[[\d;]*3\d", stream.getvalue())) == coloured
    if not terminal:
        assert "\x1b" not in stream.getvalue()
