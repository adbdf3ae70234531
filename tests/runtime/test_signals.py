"""Signals: noted once, handlers of others called and put back, a terminal that is closed."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import jax  # noqa: F401 - whose callback it is
import pytest

from vit_jax.runtime.signals import _DEAF, StopSignals, interrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """As in a terminal: background jobs ignore SIGINT, nohup SIGHUP, and so do their children."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    after = {number: signal.getsignal(number) for number in usual}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == usual, "a test left a handler behind"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_each_signal_is_noted_and_has_its_code(number, code):
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        assert signals.received == number
        signals.obeyed = number
        assert signals.exit_code == code


def test_a_handler_of_the_surrounding_program_is_called_too_and_put_back():
    heard = []

    def theirs(number, frame):
        heard.append(number)

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (signals.received, heard) == (signal.SIGTERM, [signal.SIGTERM])
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_while_jax_collects_garbage_is_raised_soon_after():
    """What is raised in JAX's callback is printed and lost, so that nothing would end."""
    reached = []

    def _xla_gc_callback():
        signal.raise_signal(signal.SIGINT)
        reached.append("its end")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        _xla_gc_callback()
        reached.append("what follows")
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["its end", "what follows"]


def test_the_name_is_that_of_jaxs_callback():
    assert _DEAF in [getattr(one, "__name__", None) for one in gc.callbacks]


def test_a_run_hears_the_command_lines_own_handler_no_more_than_pythons():
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.received == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_pythons_own_handler_of_ctrl_c_is_not_called():
    """It would raise KeyboardInterrupt in the middle of a step."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGINT


def test_handlers_come_back_after_an_exception():
    with pytest.raises(KeyError), StopSignals():
        raise KeyError


def test_nohup_stays_in_force():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_of_any_kind_ends_the_process_at_once(first, second):
    code = (
        "import os, signal\n"
        "from vit_jax.runtime.signals import StopSignals\n"
        "with StopSignals() as signals:\n"
        f"    os.kill(os.getpid(), signal.{first})\n"
        f"    assert signals.received == signal.{first}\n"
        f"    os.kill(os.getpid(), signal.{second})\n"
        "    print('still here')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert ended.returncode == -signal.Signals[second]
    assert ended.stdout == b""
