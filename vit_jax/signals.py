"""Ctrl-C and SIGTERM noted, not obeyed at once: the step in hand is finished and saved first."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_CAUGHT = (signal.SIGINT, signal.SIGTERM)
_entered: list["StopSignals"] = []


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
    """While entered, the first SIGINT or SIGTERM is kept in `received`; a second one ends at once.

    The handlers found are put back at the end. Outside the main thread nothing is caught.

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
        """128 + the signal's number, as shells report it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.obeyed if self.obeyed else 0

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _CAUGHT}
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
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
