"""What Orbax and TensorStore say of a failure: one line, once.

A save that fails is raised by the store. Beside that, Orbax logs a traceback from each of its
threads, and what still runs prints more of them; none says anything that the error does not.
"""

import asyncio
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Orbax makes the writes of an array at once, and awaits none of them where another has failed.
_NEVER_AWAITED = r"coroutine '\S*serialize\S*' was never awaited"
_SYSTEM_ERROR = re.compile(r"\[os_error_code='(\d+)'")


def reason(error: BaseException) -> str:
    """Returns why something failed, in a few words where the system gave the reason.

    TensorStore tells of a full disk in many lines, with all paths and settings that it knows.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines() or [type(error).__name__]
    found = _SYSTEM_ERROR.search(lines[0])
    return os.strerror(int(found[1])) if found else lines[0]


def hush() -> None:
    """Silences what Orbax tells of its doings, and of failures that are raised as well.

    Its warnings stay, and so do its errors without a traceback. Called again, it changes nothing.
    """
    logging.getLogger("absl").addFilter(_says_more)
    logging.getLogger("asyncio").addFilter(_is_not_of_orbax)
    warnings.filterwarnings("ignore", _NEVER_AWAITED, RuntimeWarning)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


def _says_more(record: logging.LogRecord) -> bool:
    if "orbax" not in Path(record.pathname).parts:
        return True
    return record.levelno > logging.INFO and not record.exc_info


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Whether a record is about something else than a write whose sibling has failed already."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return True
    return not (_passed_through(error, "orbax") or "[tensorstore_spec=" in str(error))


class _Unraisable:
    """Leaves out what is left of a failed save.

    That is a callback of TensorStore that finds the event loop closed, and, where warnings are
    errors, a write that was never awaited.
    """

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        late = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        closed = late and _passed_through(error, Path(asyncio.__file__).parent.name)
        if not (closed or _is_unawaited_write(error)):
            self._before(unraisable)


def _is_unawaited_write(error: BaseException) -> bool:
    return isinstance(error, RuntimeWarning) and bool(re.match(_NEVER_AWAITED, str(error)))


def _passed_through(error: BaseException, package: str) -> bool:
    """Returns whether an error was raised in, or by way of, a file of a package."""
    trace = error.__traceback__
    while trace is not None:
        if package in Path(trace.tb_frame.f_code.co_filename).parts:
            return True
        trace = trace.tb_next
    return False
