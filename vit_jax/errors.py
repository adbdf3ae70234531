"""Errors a user can cause, each with the exit code of the command line.

Every message is one line: the value that was given, the rule it breaks, and what to do instead.
"""

import difflib
from collections.abc import Iterable


class VitJaxError(ValueError):
    """Base of all errors that are shown to the user without a traceback."""

    exit_code = 2


class ConfigError(VitJaxError):
    """A wrong flag, config key, model name or combination of settings (exit code 2)."""


class DataError(VitJaxError):
    """Images, labels or a dataset that cannot be read or do not fit the model (exit code 3)."""

    exit_code = 3


class CheckpointError(VitJaxError):
    """A checkpoint or workdir that cannot be read or does not fit (exit code 3)."""

    exit_code = 3


class AbsentError(CheckpointError):
    """A remote file that is not there, as its own server says (exit code 3)."""


class SaveError(CheckpointError):
    """A checkpoint that could not be written: the disk is full, read-only or gone (exit code 3)."""


class NonFiniteError(VitJaxError):
    """The loss or the gradient is no longer finite (exit code 4)."""

    exit_code = 4


class LostProcessError(VitJaxError):
    """Another process of the job died, hangs or cannot be reached (exit code 5)."""

    exit_code = 5


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Returns "; did you mean 'x'?" for the closest known name, or "" if none is so close.

    Args:
      name: that is not known.
      known: the names there are.
      cutoff: how much of both must be the same, from 0 to 1 (`difflib.get_close_matches`).
    """
    known = list(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
