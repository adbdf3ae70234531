"""What Orbax says of a failure is told once, and nobody else's errors are lost."""

import errno
import logging
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vit_jax.checkpoints.orbax_errors import hush, reason


def test_a_reason_is_a_few_words():
    assert reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b")) == (
        "No space left on device"
    )
    message = (
        'RESOURCE_EXHAUSTED: Error writing local file "/x": Failed to write 270 bytes to file 5: '
        "No space left on device [os_error_code='28'] [tensorstore_spec='{}']\nsecond line"
    )
    assert reason(ValueError(message)) == "No space left on device"
    assert reason(ValueError("plain\nmore")) == "plain"
    assert reason(KeyError()) == "KeyError"


def _raised(error: BaseException, file: str, name: str = "call") -> BaseException:
    """Returns an error that was raised in a file of this name."""
    scope = {"error": error}
    try:
        exec(compile(f"def {name}():\n    raise error\n{name}()", file, "exec"), scope)
    except BaseException as raised:
        return raised
    raise AssertionError


def _logged(logger: str, file: str, level: int, error: BaseException | None) -> bool:
    """Returns whether a record would be shown."""
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(logger, level, file, 1, "message", (), info)
    return bool(logging.getLogger(logger).filter(record))


def test_only_what_is_raised_as_well_is_left_out():
    hush()
    orbax, other = "/lib/orbax/checkpoint/future.py", "/lib/other.py"
    full = _raised(OSError(errno.ENOSPC, "full"), orbax)
    assert not _logged("absl", orbax, logging.ERROR, full)
    assert not _logged("absl", orbax, logging.INFO, None)
    assert _logged("absl", orbax, logging.ERROR, None)
    assert _logged("absl", orbax, logging.WARNING, None)
    assert _logged("absl", other, logging.ERROR, full)
    assert not _logged("asyncio", "/lib/asyncio/base_events.py", logging.ERROR, full)
    unread = ValueError("RESOURCE_EXHAUSTED: No space left [tensorstore_spec='{}']")
    assert not _logged("asyncio", "/lib/asyncio/base_events.py", logging.ERROR, unread)
    theirs = _raised(OSError(errno.ENOSPC, "full"), other)
    assert _logged("asyncio", "/lib/asyncio/base_events.py", logging.ERROR, theirs)


def test_a_closed_loop_is_left_out_and_other_errors_in_callbacks_are_not(
    monkeypatch: pytest.MonkeyPatch,
):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    hush()
    hook: Any = sys.unraisablehook
    hush()
    assert sys.unraisablehook is hook, "it is put in once"
    loop = "/lib/asyncio/base_events.py"
    for error, told in (
        (_raised(RuntimeError("Event loop is closed"), loop), False),
        (_raised(RuntimeError("Event loop is closed"), "/lib/mine.py"), True),
        (_raised(RuntimeError("another"), loop), True),
        (_raised(ValueError("Event loop is closed"), loop), True),
    ):
        seen.clear()
        hook(SimpleNamespace(exc_value=error))
        assert bool(seen) == told, error


WRITES = """
import gc, sys, warnings
from vit_jax.checkpoints.orbax_errors import hush

def async_serialize_from_host():
    async def write_fragment(): ...
    return write_fragment()

def mine():
    async def write_fragment(): ...
    return write_fragment()

hush()
if sys.argv[1] == "errors":
    warnings.simplefilter("error")
for make in (async_serialize_from_host, mine):
    make()
gc.collect()
"""


@pytest.mark.parametrize("how", ["errors", "shown"])
def test_writes_that_were_never_awaited_are_left_out_and_other_coroutines_are_not(how: str):
    """As they are left where another write of the same array has failed, by a full disk."""
    ran = subprocess.run(
        [sys.executable, "-c", WRITES, how], capture_output=True, text=True, check=True
    )
    assert "'mine.<locals>.write_fragment' was never awaited" in ran.stderr
    assert "async_serialize" not in ran.stderr
