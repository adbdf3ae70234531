"""Checkpoints of a run while it trains, and what happens when one cannot be written."""

import logging
from typing import Any

import jax

from vit_jax.checkpoints.store import Store
from vit_jax.config import Config
from vit_jax.errors import SaveError
from vit_jax.runtime import processes
from vit_jax.trees import Tree

logger = logging.getLogger("vit_jax")


class Saving:
    """Saves while training goes on, and bears failures by a rule.

    A save that fails is told at the first step at which it is known. The steps saved before stay,
    training goes on, and the next save is tried when it is due. The run ends at
    `config.failed_saves_limit` failures in a row, or if the last save fails, which `finish` waits
    for. Every process of a job makes the same calls.

    Args:
      store: where to.
      config: all settings.
    """

    def __init__(self, store: Store, config: Config):
        self._store = store
        self._limit, self._together_every = config.failed_saves_limit, config.progress_every
        self._failures = 0
        self._failed: SaveError | None = None  # how the newest save ended, as far as is known

    def check(self, step: int) -> None:
        """Tells if the save in flight has failed meanwhile; waits for nothing.

        Several processes ask each other only every `progress_every` steps, as it takes time.

        Raises:
          SaveError: it was one failure too many.
        """
        if not self._store.saving:
            return
        if jax.process_count() > 1 and step % self._together_every:
            return
        if processes.largest(int(not self._store.ended)) == 0:
            self._settle()

    def save(self, step: int, state: Tree, metadata: dict[str, Any]) -> None:
        """Starts to save, once the save before has ended; then the state may be donated.

        Raises:
          SaveError: it was one failure too many.
        """
        self._settle()
        try:
            self._store.save(step, state, metadata)
        except SaveError as error:
            self._bear(error)

    def finish(self) -> None:
        """Returns when the newest save is committed.

        Raises:
          SaveError: it failed.
        """
        if self._store.saving:
            self._failures = self._limit - 1  # no later save can make up for this one
            self._settle()
        if self._failed is not None:
            raise _ending(self._failed)

    def _settle(self) -> None:
        if not self._store.saving:
            return
        try:
            self._store.wait()
            self._failures, self._failed = 0, None
        except SaveError as error:
            self._bear(error)

    def _bear(self, error: SaveError) -> None:
        self._failures, self._failed = self._failures + 1, error
        if self._failures >= self._limit:
            raise _ending(error)
        logger.warning(
            "%s. The run goes on, and ends at %d such failures in a row (this is %d)",
            error,
            self._limit,
            self._failures,
        )


def _ending(error: SaveError) -> SaveError:
    return SaveError(f"{error}: mend the cause and start the same command again")
