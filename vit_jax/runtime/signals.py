"""Ctrl-C, SIGTERM and a closed terminal: the step in hand is finished and saved first."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# SIGHUP is what a terminal sends that is closed; Windows has none.
_CAUGHT = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
# JAX's part in collecting garbage: what is raised in it, Python prints and forgets.
_DEAF = "_xla_gc_callback"
_LATER = 0.05  # seconds
_entered: list["StopSignals"] = []


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, as Python's own handler; a little later where it would be lost.

    Raises:
      KeyboardInterrupt: the program was not inside JAX's part in collecting garbage.
    """
    if frame is None or frame.f_code.co_name != _DEAF:
        raise KeyboardInterrupt
    again = threading.Timer(_LATER, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def obey() -> None:
    """Ends what a `StopSignals` surrounds if a signal has come: Ctrl-C by KeyboardInterrupt.

    For loops that have nothing to save. Left to Python, a KeyboardInterrupt that is raised while
    JAX collects garbage is lost.
    """
    for signals in _entered:
        if signals.received == signal.SIGINT:
            raise KeyboardInterrupt
        if signals.received is not None:
            signal.signal(signals.received, signal.SIG_DFL)
            os.kill(os.getpid(), signals.received)


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP is kept in `received`; a second ends it.

    A handler that the surrounding program had set is called as well, and all are put back at the
    end. A SIGHUP that was ignored (`nohup`) still is. Outside the main thread nothing is caught.

    Attributes:
      received: the signal that this process got.
      obeyed: the signal that the run stops for, which another process of the job may have got.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.obeyed: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 129 for SIGHUP, 130, 143 for SIGTERM."""
        return 128 + self.obeyed if self.obeyed else 0

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in _CAUGHT if _heard(one)}
        _entered.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _entered.remove(self)
        for number, handler in self._before.items():
            # Python does not know a handler that another language has set, and cannot set it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
        handler = self._before[self.received]
        if callable(handler) and handler not in (signal.default_int_handler, interrupt):
            handler(number, frame)


def _heard(number: signal.Signals) -> bool:
    """Whether a signal is to be caught: `nohup` has SIGHUP ignored, so that the run goes on."""
    return number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN
