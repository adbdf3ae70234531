"""What visitors of the page have looked at last, each under a key that nobody else can guess."""

import secrets
import threading
from collections import OrderedDict

from vit_jax.demo.viewing import View
from vit_jax.errors import DataError

_MOST = 64


class Visits:
    """Keeps the last image of each visitor, in memory alone; any thread may ask.

    Args:
      most: how many are kept; then the one that was not asked for the longest goes.
    """

    def __init__(self, most: int = _MOST):
        self._views: OrderedDict[str, View] = OrderedDict()
        self._most, self._lock = most, threading.Lock()

    def add(self, view: View, instead: str | None = None) -> str:
        """Keeps a view, and forgets another one; returns the key of the new one."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._views.pop(instead or "", None)
            self._views[key] = view
            while len(self._views) > self._most:
                self._views.popitem(last=False)
        return key

    def find(self, key: str) -> View:
        """Returns the view of a key, or raises `DataError` where it is forgotten."""
        with self._lock:
            if key not in self._views:
                raise DataError("This photograph is no longer kept: choose it again")
            self._views.move_to_end(key)
            return self._views[key]
