"""Checkpoints of a run: saved while training goes on, verified before they are restored.

Nothing outside this folder knows Orbax. Its CheckpointManager takes any numbered folder for a
checkpoint, restores flipped bytes, never falls back, and deletes old steps before anyone has looked
at the new one. So the store uses the AsyncCheckpointer beneath it, and `steps` decides what counts.
A step has the layout of a CheckpointManager with the items `state` and `metadata`, and can be read
by one.
"""

import contextlib
import errno
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from vit_jax import trees
from vit_jax.checkpoints import fit, reading
from vit_jax.checkpoints.orbax_errors import reason
from vit_jax.checkpoints.orbax_writer import make_writer, written
from vit_jax.checkpoints.reading import Restored
from vit_jax.checkpoints.retention import Retention
from vit_jax.checkpoints.steps import StepFolders
from vit_jax.errors import CheckpointError, SaveError
from vit_jax.runtime import processes
from vit_jax.trees import Tree

logger = logging.getLogger("vit_jax")

# Seconds after the last failed save in which writes that nobody can wait for may still come.
_LATE_WRITES = 0.5


class Store:
    """The checkpoints in one directory of a POSIX file system, shared by all processes of a job.

    Reading changes nothing on disk, so a run can be evaluated while it trains. Only one job may
    write: let it hold a `WorkdirLock`. Every process of it makes the same calls; process 0 seals,
    renames and deletes. Not thread-safe. Use `with`, or close it: else an interpreter that
    exits loses the save in flight.

    Args:
        directory: made when the first step is saved.
        keep: how many intact steps stay, or a rule; others are deleted once a newer one is sealed.

    Raises:
        ConfigError: `keep` is less than 1.
    """

    def __init__(self, directory: str | Path, *, keep: int | Retention = 2):
        retention = keep if isinstance(keep, Retention) else Retention(newest=keep)
        self.directory = Path(directory).absolute()
        self._folders = StepFolders(self.directory, retention)
        self._gave_up = False
        self._writer: ocp.AsyncCheckpointer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight: tuple[int, Future[None]] | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except SaveError as failure:
            if error is None:
                raise
            logger.warning("%s", failure)  # and the block ends by its own error

    def save(self, step: int, state: Tree, metadata: dict[str, Any]) -> None:
        """Starts to save, and returns when the arrays may be donated or overwritten.

        First waits for the save before. A folder of this number that is empty or damaged is
        replaced. The step counts only once its files are written and sealed: see `wait`.

        Args:
            step: how many updates `state` has seen, at least 0.
            state: any tree of arrays; typed random keys as their `jax.random.key_data`.
            metadata: what JSON can hold; tuples come back as lists.

        Raises:
            SaveError: the save before failed, or the directory cannot be written.
            CheckpointError: the step is already there, intact; a leaf or the metadata cannot be
                stored.
        """
        self.wait()
        items = written(step, state, metadata)
        if self._folders.is_intact(step):
            raise CheckpointError(
                f"step {step} is already saved in {self.directory}; a saved step is never "
                "repeated: restore it, or save to another directory"
            )
        # Orbax's processes wait for each other inside `save`, some minutes for one that cannot
        # come: so what is likely to fail there is tried before.
        self._together(step, self._make_room)
        self._together(
            step, lambda: self._open().save(self._folders.staged(step), args=items, force=True)
        )
        self._in_flight = step, self._thread.submit(self._commit, self._open(), step)

    @property
    def saving(self) -> bool:
        """Whether a save was started that nobody has waited for; the same in all processes."""
        return self._in_flight is not None

    @property
    def ended(self) -> bool:
        """Whether `wait` would return, or raise, at once as far as this process is concerned."""
        return self._in_flight is None or self._in_flight[1].done()

    def wait(self) -> None:
        """Returns when the save in flight, if any, is committed with its digests.

        Raises:
            SaveError: that save failed, in this process or another; it names the step. Raised
                once: older steps are as they were, what was written of this one is deleted, and
                the next save starts afresh.
        """
        if self._in_flight is None:
            return
        (step, done), self._in_flight = self._in_flight, None
        error = done.exception()
        # Where process 0 has renamed the step, all may read it; where one has failed, all know.
        if not processes.largest(int(error is not None)):
            return
        self._give_up()
        raise self._failure(step, error)

    def steps(self) -> list[int]:
        """Returns the committed steps, oldest first: sealed, and each file there at its size.

        The bytes are not read: that a step is listed does not mean that it verifies.
        """
        return self._folders.committed()

    def restore(self, abstract: Tree | None, step: int | None = None) -> Restored | None:
        """Reads the newest step that verifies, or `step`; None if there is no checkpoint at all.

        Args:
            abstract: a tree of `jax.ShapeDtypeStruct` (or arrays) with the structure, shapes,
                dtypes and shardings wanted, whatever mesh the step was saved on; a leaf without
                sharding goes to the default device. With None the state comes back as nested
                dicts of NumPy arrays, by the parts of their paths.
            step: this step or none other: no fallback.

        Raises:
            CheckpointError: folders are there, but none verifies; `step` is absent or damaged; the
                state differs from `abstract` in a path, a shape or a dtype (nothing is cast,
                padded or cut) or does not divide as its sharding asks; the save in flight failed.
        """

        def read(folder: Path) -> Restored:
            saved = reading.saved_arrays(folder)
            if abstract is None:
                return reading.read(folder, dict.fromkeys(saved))
            wanted = trees.flatten(abstract)
            fit.check(folder, saved, wanted)
            restored = reading.read(folder, wanted)
            leaves = trees.flatten(restored.state)
            state = trees.map_with_path(lambda path, _: leaves[path], abstract)
            return replace(restored, state=state)

        return self._found(step, read)

    def restore_subtree(self, *paths: str, step: int | None = None) -> Restored | None:
        """As `restore(None)`, but only the leaves at or below `paths`, such as "params".

        The others are verified in passing and never held in memory. A path without leaves
        (`batch_stats` of a model that has none) is absent from the state.

        Raises:
            CheckpointError: as for `restore`; also if none of `paths` has a leaf.
        """

        def read(folder: Path) -> Restored:
            saved = reading.saved_arrays(folder)
            roots = tuple(f"{path}/" for path in paths)
            chosen = [path for path in saved if f"{path}/".startswith(roots)]
            if not chosen:
                known = sorted({path.split("/")[0] for path in saved})
                raise CheckpointError(
                    f"{folder} has no arrays at {', '.join(paths)}; it has {', '.join(known)}"
                )
            return reading.read(folder, dict.fromkeys(chosen))

        return self._found(step, read)

    def metadata(self, step: int | None = None) -> dict[str, Any]:
        """Returns the metadata of the step that `restore` would read, without its arrays.

        Raises:
            CheckpointError: as for `restore`; also if there is no checkpoint at all.
        """
        found = self._found(step, lambda folder: reading.read(folder, {}))
        if found is None:
            raise CheckpointError(f"{self.directory} has no checkpoint; name a trained workdir")
        return found.metadata

    def close(self) -> None:
        """Waits for the save in flight and ends all threads; a closed store can still read.

        Raises:
            CheckpointError: that save failed; the threads have ended all the same.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()
            if self._gave_up and processes.is_first():
                self._folders.forget_staging(_LATE_WRITES)

    def _found(self, step: int | None, read: Callable[[Path], Restored]) -> Restored | None:
        """Reads the newest good step, or `step`; None if there is none.

        Where a run that trains deletes the folder in the meantime, the newest is another by now:
        one process looks once more. Several would have to agree that it is gone.
        """
        self.wait()
        folder = self._folders.find(step)
        try:
            return None if folder is None else read(folder)
        except CheckpointError:
            if step is not None or folder is None or folder.exists() or jax.process_count() > 1:
                raise
        folder = self._folders.find(None)
        return None if folder is None else read(folder)

    def _together(self, step: int, act: Callable[[], Any]) -> None:
        """Does what all processes do; where it fails in one of them, the save fails in all."""
        error: BaseException | None = None
        try:
            act()
        except Exception as raised:
            error = raised
        if processes.largest(int(error is not None)):
            self._give_up()
            raise self._failure(step, error)

    def _make_room(self) -> None:
        if processes.is_first():
            self._folders.clear_staging()

    def _open(self) -> ocp.AsyncCheckpointer:
        """Returns the writer, made when the first save needs it."""
        if self._writer is None:
            self._writer = make_writer()
        return self._writer

    def _commit(self, writer: ocp.AsyncCheckpointer, step: int) -> None:
        writer.wait_until_finished()
        if processes.is_first():
            self._folders.commit(step)

    def _give_up(self) -> None:
        """Gives back the space that a failed save has taken: it may be what the next one needs.

        The writer goes, too: it keeps the error of a thread, and would raise it at the next save.
        """
        self._gave_up = True
        writer, self._writer = self._writer, None
        for end in (writer.wait_until_finished, writer.close) if writer is not None else ():
            with contextlib.suppress(Exception):  # what failed is known by now
                end()
        if processes.is_first():
            self._folders.forget_staging()

    def _failure(self, step: int, error: BaseException | None) -> SaveError:
        """Returns what is told of a save that failed here, by an error, or in another process."""
        why = error or OSError(errno.EIO, "another process could not write its part")
        failure = SaveError(
            f"saving step {step} to {self.directory} failed ({reason(why)}); "
            "the steps before are untouched"
        )
        failure.__cause__ = why
        return failure
