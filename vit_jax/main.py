"""The command line: `vit_jax train | evaluate | predict | models`."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from vit_jax.errors import CheckpointError, ConfigError, VitJaxError, nearest

# Every import beyond errors waits for its command: help and usage errors must be instant.

_INTERRUPTED = 130
_BROKEN_PIPE = 141


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
        if options.command != "train" or not _is_override(flag):
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

    def command(name: str, function: Any, purpose: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=purpose,
            description=purpose,
            epilog=f"example: {example}",
            allow_abbrev=False,
        )
        sub.set_defaults(run=function)
        return sub

    train = command(
        "train",
        _train,
        "train a model, or go on with a run: the same command again resumes",
        "vit_jax train --config=digits --workdir=runs/digits --config.base_lr=0.001",
    )
    train.add_argument(
        "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
    )
    train.add_argument("--workdir", required=True, help="folder for checkpoints and metrics")
    evaluate = command(
        "evaluate",
        _evaluate,
        "score a trained model on its test split",
        "vit_jax evaluate --workdir=runs/digits",
    )
    evaluate.add_argument("--workdir", required=True, help="workdir of a run")
    predict = command(
        "predict",
        _predict,
        "name the most probable classes of images",
        "vit_jax predict --checkpoint=runs/digits photo.jpg",
    )
    predict.add_argument("--checkpoint", required=True, help="workdir of a run")
    predict.add_argument("--top", type=int, default=5, help="classes to show (default 5)")
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    command("models", _models, "list the models and recipes", "vit_jax models")
    return parser, dict(commands.choices)


def _flags_of(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    from vit_jax.train import train

    return train(config, options.workdir).exit_code


def _evaluate(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.evaluate import evaluate_run
    from vit_jax.loggers import score_line
    from vit_jax.pretrained import load_run

    trained = load_run(options.workdir)
    scores, count = evaluate_run(trained)
    print(score_line(scores, count))
    print(f"checkpoint  {trained.workdir.given}/checkpoints/{trained.step}")
    return 0


def _predict(options: argparse.Namespace, _: list[str]) -> int:
    if options.top < 1:
        raise ConfigError(f"--top={options.top}: must be at least 1")
    from vit_jax.predict import predict
    from vit_jax.pretrained import load_run

    for found in predict(load_run(options.checkpoint), options.images, options.top):
        pairs = zip(found.classes, found.probabilities, strict=True)
        if options.json:
            print(json.dumps({"path": found.path, "top": [list(pair) for pair in pairs]}))
        else:
            print(found.path, *(f"  {100 * p:6.2f} %  {name}" for name, p in pairs), sep="\n")
    return 0


def _models(_: argparse.Namespace, __: list[str]) -> int:
    from vit_jax.models import list_models
    from vit_jax.recipes import shipped

    print("models   ", "  ".join(list_models()))
    print("recipes  ", "  ".join(shipped()))
    return 0


if __name__ == "__main__":
    run()
