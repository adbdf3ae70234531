"""The command line: finds the command, and turns every error into one line and an exit code."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax.commands import COMMANDS
from vit_jax.errors import CheckpointError, ConfigError, VitJaxError, nearest

_INTERRUPTED = 130
_BROKEN_PIPE = 141
_TAKE_SETTINGS = ("train", "benchmark")  # the commands with --config.KEY=VALUE flags


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; errors of the user are one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="vit_jax: %(message)s")
    try:
        return _dispatch(list(arguments))
    except VitJaxError as error:
        print(f"vit_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vit_jax: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of `vit_jax … | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:  # a full disk, a folder that vanished or may not be written
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"vit_jax: error: {where}", file=sys.stderr)
        return CheckpointError.exit_code


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0].startswith("--") and arguments[0] not in ("--help", "--version"):
        arguments.insert(0, "train")  # python -m vit_jax.main --config=… --workdir=…
    parser, commands = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        hint = nearest(arguments[0], commands)
        raise ConfigError(f"{arguments[0]}: no such command{hint}; see vit_jax --help")
    if not arguments:
        parser.print_help()
        return 2
    options, rest = parser.parse_known_args(arguments)
    for flag in rest:
        if options.command not in _TAKE_SETTINGS or not _is_override(flag):
            hint = nearest(flag.split("=")[0], _flags_of(commands[options.command]))
            raise ConfigError(f"{flag}: no such flag of {options.command}{hint}")
    return options.run(options, rest)


def _is_override(flag: str) -> bool:
    return flag.startswith(("--config.", "--noconfig."))


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, as all others are."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    from vit_jax import __version__

    parser = _Parser(prog="vit_jax", description="Vision Transformers in JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vit_jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
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


def _flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Returns the flags of a command, and of the commands below it."""
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            flags += [flag for below in action.choices.values() for flag in _flags_of(below)]
    return flags


if __name__ == "__main__":
    run()
