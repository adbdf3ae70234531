"""The command line: finds the command, and turns every error into one line and an exit code."""

import io
import logging
import re
import signal
import sys
from collections.abc import Sequence

from vit_jax.commands.hints import hint_for
from vit_jax.commands.parser import TAKE_SETTINGS, flags_of, make_parser
from vit_jax.errors import CheckpointError, ConfigError, VitJaxError, nearest
from vit_jax.runtime import huge_pages, output, signals

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def run() -> None:
    """Entry point of the console script."""
    huge_pages.ask()
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):  # not where there is none
            stream.reconfigure(errors="surrogateescape")  # names of files are any bytes
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signals.interrupt)
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; errors of the user are one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="vit_jax: %(message)s")
    try:
        with output.sent():
            return _dispatch(list(arguments))
    except VitJaxError as error:
        print(f"vit_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vit_jax: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of `vit_jax … | head` has gone
        return _BROKEN_PIPE
    except OSError as error:  # a full disk, a folder that vanished or may not be written
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"vit_jax: error: {where}", file=sys.stderr)
        return CheckpointError.exit_code


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0].startswith("--") and arguments[0] not in ("--help", "--version"):
        arguments.insert(0, "train")  # python -m vit_jax.main --config=… --workdir=…
    parser, commands = make_parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        hint = nearest(arguments[0], commands)
        raise ConfigError(f"{arguments[0]}: no such command{hint}; see vit_jax --help")
    if not arguments:
        parser.print_help()
        return 2
    _check_empty(arguments)
    options, rest = parser.parse_known_args(arguments)
    for before, flag in zip(["", *rest], rest, strict=False):
        if _is_override(before) and "=" not in before and not flag.startswith("--"):
            raise ConfigError(f"{before} {flag}: write {before}={flag}")
        if options.command not in TAKE_SETTINGS or not _is_override(flag):
            hint = hint_for(flag, options.command, flags_of(commands[options.command]))
            raise ConfigError(f"{flag}: no such flag of {options.command}{hint}")
    return options.run(options, rest)


def _check_empty(arguments: Sequence[str]) -> None:
    """Refuses what a variable that is not set leaves: a path that would mean the folder here."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument == "" or (re.fullmatch(r"--[\w-]+=", argument) and not _is_override(argument)):
            named = argument or (f"{before} ''" if before.startswith("--") else "''")
            raise ConfigError(f"{named}: is empty; give a value, or leave it out")


def _is_override(flag: str) -> bool:
    return flag.startswith(("--config.", "--noconfig."))


if __name__ == "__main__":
    run()
