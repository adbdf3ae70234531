"""What a program shows: standard output that may go away, and texts that may be any bytes.

A closed pipe or terminal does not end a run.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("vit_jax")

_NOWHERE = io.StringIO()


def lasting() -> Any:
    """Returns a text stream, as `rich` takes one, to whatever `sys.stdout` is.

    Once nobody reads any more (`| head` has ended, the terminal was closed), that is said once in
    the log, and all that follows is dropped, whoever prints it.
    """
    return _Output()


@contextlib.contextmanager
def sent() -> Iterator[None]:
    """Sends off what the block has printed, so that what goes wrong then is raised here.

    Python itself does so at the end of the program, too late for a line or an exit code of ours.
    What cannot be sent is dropped.
    """
    try:
        yield
    except SystemExit:  # after --help
        _stdout().flush()
        raise
    else:
        _stdout().flush()
    finally:
        try:
            _stdout().flush()
        except OSError:
            _turn_to_nowhere()


def well_formed(text: str) -> str:
    """Returns a text with "?" for what no page, picture or library of texts takes.

    Those are the halves of surrogate pairs that stand for bytes in the name of a file that is not
    UTF-8.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


class _Output:
    def write(self, text: str) -> int:
        """Writes a text; returns its length, written or not."""
        try:
            _stdout().write(text)
        except OSError as error:
            _drop_all(error)
        return len(text)

    def flush(self) -> None:
        """Sends off what was written."""
        try:
            _stdout().flush()
        except OSError as error:
            _drop_all(error)

    def __getattr__(self, name: str) -> Any:
        """What else a stream has: `encoding`, `isatty`, `fileno`."""
        return getattr(_stdout(), name)


def _stdout() -> Any:
    """A progress bar of `rich` puts itself before `sys.stdout`, and keeps the stream in it.

    A program started without standard output has None in its place.
    """
    return getattr(sys.stdout, "rich_proxied_file", sys.stdout) or _NOWHERE


def _drop_all(error: OSError) -> None:
    _turn_to_nowhere()
    logger.warning("standard output is gone (%s): the run goes on in silence", error.strerror)


def _turn_to_nowhere() -> None:
    """Turns the descriptor, for what is buffered in Python is sent at its exit, too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _stdout().fileno())
    os.close(nowhere)
