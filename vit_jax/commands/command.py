"""What a command of `vit_jax` is."""

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
      name, purpose, example: for the reader.
      add_arguments: declares what the command takes.
      run: takes the parsed arguments and the `--config.key=value` flags; returns the exit code.
    """

    name: str
    purpose: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, list[str]], int]
