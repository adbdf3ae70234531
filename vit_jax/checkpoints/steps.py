"""The folders of a checkpoint directory: which are steps, which verify, which may go.

    DIRECTORY/12/                  a step, named by its number
    DIRECTORY/12/integrity.json    its seal: size and SHA-256 of every other file
    DIRECTORY/.staging/            saves in flight and steps being deleted; nothing in it counts

A step is written and sealed in `.staging`, then one rename makes it a step: a process killed at any
moment leaves whole steps, each with its digests. The rule of reading: the newest step whose files
are those that were sealed. A numbered folder without a seal has lost it or came from elsewhere; it
is never read. Every newer folder that is passed over is named in a warning.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Set
from pathlib import Path

from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.retention import Retention, Scores
from vit_jax.errors import CheckpointError
from vit_jax.runtime import processes

logger = logging.getLogger("vit_jax")

STAGING = ".staging"
# Either file shows that a numbered folder is a checkpoint, and not something a user keeps here.
_MARKS = (integrity.SEAL, "_CHECKPOINT_METADATA")
_METADATA = "metadata/metadata"  # JSON, as Orbax writes it


class StepFolders:
    """The steps in `directory`; which stay is `retention`'s to say. Reading changes nothing."""

    def __init__(self, directory: Path, retention: Retention):
        self.directory = directory
        self._retention = retention
        self._staging = directory / STAGING
        self._known_scores: dict[int, Scores] = {}
        self._damaged: set[int] = set()  # read, with other digests; retention does not count them
        self._told: set[int] = set()  # folders that retention leaves, which was said

    def folder(self, step: int) -> Path:
        """Returns where `step` is, or will be."""
        return self.directory / str(step)

    def staged(self, step: int) -> Path:
        """Returns where the files of `step` are written before it is committed."""
        return self._staging / str(step)

    def clear_staging(self) -> None:
        """Deletes what a killed or failed writer left behind, and makes the directory if absent."""
        self.forget_staging()
        self._staging.mkdir(parents=True, exist_ok=True)

    def forget_staging(self, patience: float = 0.0) -> None:
        """Gives back the space of all that is no step, and for so many seconds of what yet comes.

        Of a save that has failed, writes may still be under way: nobody can wait for them.
        """
        end = time.monotonic() + patience
        shutil.rmtree(self._staging, ignore_errors=True)
        while time.monotonic() < end:
            time.sleep(0.05)
            shutil.rmtree(self._staging, ignore_errors=True)

    def committed(self) -> list[int]:
        """Returns the sealed steps whose files are all there at their sizes, oldest first."""
        return [
            step
            for step in self.numbered()
            if integrity.damage(self.folder(step), digests=False) is None
        ]

    def is_intact(self, step: int) -> bool:
        """Returns whether `step` is there and every byte of it is as it was sealed."""
        return self.folder(step).exists() and integrity.damage(self.folder(step)) is None

    def commit(self, step: int) -> None:
        """Makes the staged files a step, in the place of a damaged one; then deletes older steps.

        Raises:
            OSError: the files cannot be read or renamed; the steps are as they were.
        """
        integrity.seal(self.staged(step))
        self._discard(step)
        os.rename(self.staged(step), self.folder(step))
        integrity.sync(self.directory)
        self._damaged.discard(step)
        self._known_scores.pop(step, None)
        try:
            self._retain(step)
        except OSError as error:  # the step is safe, which is what counts
            logger.warning("%s: old checkpoints cannot be deleted: %s", self.directory, error)

    def find(self, step: int | None) -> Path | None:
        """Returns the newest folder that verifies, or that of `step`; None if there is no step.

        Of several processes the first one looks, so that all read the same.

        Raises:
            CheckpointError: `step` is absent or damaged, or there are steps and all are damaged.
        """
        found = processes.as_first(lambda: self._verified(step))
        return None if found is None else self.folder(found)

    def _verified(self, step: int | None) -> int | None:
        if step is not None:
            if reason := integrity.damage(self.folder(step)):
                raise CheckpointError(
                    f"step {step} of {self.directory} cannot be restored ({reason}); "
                    f"committed steps: {self.committed()}"
                )
            return step
        passed_over: dict[int, str] = {}
        for candidate in reversed(self.numbered()):
            what, reason = self._read(candidate)
            if reason is not None and not self.folder(candidate).exists():
                return self._verified(None)  # a run that trains has deleted it: look again
            if reason is None:
                if passed_over:
                    logger.warning("%s: falling back to step %d", self.directory, candidate)
                return candidate
            logger.warning("%s: step %d %s (%s)", self.directory, candidate, what, reason)
            passed_over[candidate] = reason
        self._refuse_if_lost(passed_over)
        return None

    def _read(self, step: int) -> tuple[str, str | None]:
        """Returns what is wrong with a step, and why it is thought so: None if it is intact."""
        folder = self.folder(step)
        try:
            reason = integrity.difference(folder)
        except OSError as error:
            return "cannot be read", integrity.unreadable(folder, error)
        if reason is not None and integrity.damage(folder, digests=False) is None:
            self._damaged.add(step)  # all files are there at their sizes: it is their bytes
        return "is damaged", reason

    def _refuse_if_lost(self, passed_over: Mapping[int, str]) -> None:
        """Raises if one of these folders ever was a step: an empty one never was."""
        lost = [step for step in passed_over if any(self.folder(step).iterdir())]
        if lost:
            raise CheckpointError(
                f"{self.directory}: all checkpoints are damaged (step {lost[0]}: "
                f"{passed_over[lost[0]]}); put that right, copy a good one back, or delete the "
                "directory to start anew"
            )

    def numbered(self) -> list[int]:
        """Returns the numbers of all numbered folders, whatever is in them, oldest first."""
        if not self.directory.is_dir():
            return []
        names = (path.name for path in self.directory.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def _retain(self, committed: int) -> None:
        """Deletes steps that the rule does not ask for; never `committed`, known to be good.

        A step that looks damaged stays, unless its bytes were read and are others: a file that
        somebody laid into it, or a disk that did not answer, is no reason to lose it.
        """
        whole = self.committed()
        intact = [step for step in whole if step not in self._damaged]
        kept = {committed, *self._retention.kept(intact, self._scores)}
        for step in whole:
            if step not in kept:
                self._discard(step)
        self._tell_of_others({*whole, committed})

    def _tell_of_others(self, whole: Set[int]) -> None:
        """Warns once of each folder that nobody will delete, though it has been a checkpoint."""
        for step in self.numbered():
            folder = self.folder(step)
            if step in whole | self._told or not any((folder / mark).exists() for mark in _MARKS):
                continue
            if reason := integrity.damage(folder, digests=False):
                self._told.add(step)
                logger.warning("%s: is left, but counts for nothing (%s)", folder, reason)

    def _scores(self, step: int) -> Scores:
        """Returns the scores that the metadata of a step tell of; {} if there are none."""
        if step not in self._known_scores:
            try:
                content = json.loads((self.folder(step) / _METADATA).read_text())
                self._known_scores[step] = content.get("scores") or {}
            except (ValueError, AttributeError):  # its bytes were never verified in this process
                self._known_scores[step] = {}
        return self._known_scores[step]

    def _discard(self, step: int) -> None:
        """Deletes a step; a kill in the middle leaves rubbish in staging, never half a step."""
        rubbish = self._staging / f"{step}.old"
        shutil.rmtree(rubbish, ignore_errors=True)
        if self.folder(step).exists():
            os.rename(self.folder(step), rubbish)
            shutil.rmtree(rubbish, ignore_errors=True)
