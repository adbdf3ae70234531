"""The parser of all commands, its errors and its help, which fit a screen."""

import argparse
import shutil
import textwrap
from typing import Any

from vit_jax import __version__
from vit_jax.commands import COMMANDS
from vit_jax.errors import ConfigError

TAKE_SETTINGS = ("train", "finetune", "benchmark")  # the commands with --config.KEY=VALUE flags

_NARROWEST = 40  # columns, below which lines are left to the terminal to break


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, as all others are."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message}; see {self.prog} --help")


class _Overview(Parser):
    """Shows the commands, one a line, with the first that a newcomer types."""

    def format_help(self) -> str:
        width = max(shutil.get_terminal_size().columns, _NARROWEST)
        column = max(len(command.name) for command in COMMANDS) + 4
        lines = ["usage: vit_jax COMMAND …    (or: --version, --help)", ""]
        for command in COMMANDS:
            start = f"  {command.name}".ljust(column)
            lines += textwrap.wrap(
                command.purpose, width, initial_indent=start, subsequent_indent=" " * column
            )
        return "\n".join(
            [
                *lines,
                "",
                "example: vit_jax train --config=digits --workdir=runs/digits",
                "vit_jax COMMAND --help tells more of each.",
                "",
            ]
        )


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Returns the parser, and those of the commands by name."""
    parser = _Overview(prog="vit_jax", description="Vision Transformers in JAX", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vit_jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.purpose,
            description=command.purpose,
            epilog=f"example: {command.example}",
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser, dict(commands.choices)


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Returns the flags of a command, and of the commands below it."""
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for below in parsers_below(parser):
        flags += flags_of(below)
    return flags


def parsers_below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Returns the parsers of the commands inside a command."""
    groups = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [below for group in groups for below in group.choices.values()]
