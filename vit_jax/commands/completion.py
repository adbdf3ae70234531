"""The command completion."""

import argparse

from vit_jax.commands.command import Command

# Every other import waits for its command: help and usage errors must be instant.

_FILES = ("source", "target", "images", "config", "workdir", "workdirs", "checkpoint", "output")
_FILES += ("features", "attention", "real", "folder")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="for which the script is printed")
    parser.epilog = (
        'examples, for this and all later shells: bash: add eval "$(vit_jax completion bash)" to '
        "~/.bashrc; zsh: vit_jax completion zsh > FOLDER/_vit_jax, where FOLDER is in your fpath"
    )


def _completion(options: argparse.Namespace, _: list[str]) -> int:
    import shtab

    from vit_jax.commands.parser import TAKE_SETTINGS, make_parser, parsers_below

    parser, commands = make_parser()
    for name in TAKE_SETTINGS:
        for one in parsers_below(commands[name]) or [commands[name]]:
            _add_settings(one)
    for one in commands.values():
        _complete_files(one)
        for below in parsers_below(one):
            _complete_files(below)
    print(shtab.complete(parser, options.shell))
    return 0


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """The settings, which the command itself reads in another way."""
    from vit_jax.settings import KEYS

    for path, key in KEYS.items():
        parser.add_argument(f"--config.{path}", help=key.meaning.partition(";")[0][:60])


def _complete_files(parser: argparse.ArgumentParser) -> None:
    import shtab

    for action in parser._actions:
        if action.dest in _FILES and not action.choices:
            setattr(action, "complete", shtab.FILE)  # noqa: B010  shtab's own attribute


COMPLETION = Command(
    "completion",
    "print a script that completes commands and flags in bash or zsh",
    'eval "$(vit_jax completion bash)"',
    _arguments,
    _completion,
)
