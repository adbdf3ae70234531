"""The compiled parts of a run, where its state comes from, and what it says of itself."""

import contextlib
import logging
import signal
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from vit_jax import fingerprint, trees
from vit_jax.checkpoints.store import Restored, Store
from vit_jax.contact_sheet import draw_contact_sheet
from vit_jax.data.pipeline import Batch
from vit_jax.errors import CheckpointError
from vit_jax.experiment import Experiment
from vit_jax.finetune import weights_of
from vit_jax.mesh import device_bytes, replicated
from vit_jax.nonfinite import NonFiniteGuard
from vit_jax.origin import describe_model
from vit_jax.provenance import provenance
from vit_jax.records.loggers import Check, Console
from vit_jax.records.metrics_file import MetricsFile, Record
from vit_jax.resuming import check_data, provenance_line
from vit_jax.runtime import memory, processes
from vit_jax.runtime.signals import StopSignals
from vit_jax.state import TrainState, parted
from vit_jax.step import Metrics
from vit_jax.tasks import task_of
from vit_jax.training_program import TrainingProgram

logger = logging.getLogger("vit_jax")


class Run:
    """The compiled parts of a run, and where its state comes from.

    Args:
      experiment: devices, data and model.
      store: of the checkpoints.
      signals: that end the run early.
      report: the folder for pictures; None draws none.

    Attributes:
      waiting_metrics: the lines that metrics.jsonl lacked when the checkpoint was saved from which
        `start` went on.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        signals: StopSignals,
        report: Path | None = None,
    ):
        self.experiment, self.store, self.signals = experiment, store, signals
        self._report = report
        self.waiting_metrics: list[Record] = []
        config = experiment.config
        self.task = task_of(experiment)
        self._program = TrainingProgram(self.task)
        self.step = self._program.step
        self._guard = NonFiniteGuard(
            config.nonfinite,
            config.nonfinite_limit,
            config.nonfinite_row_limit,
            list(trees.flatten(parted(self._program.state.params, self.task.beginning.locked)[0])),
            lambda step: experiment.train.training_indices(step - 1).tolist(),
            report / "nonfinite.json" if report else None,
        )
        self.evaluate = self.task.evaluator(experiment)

    def start(self, console: Console, changed: Collection[str] = ()) -> TrainState:
        """Returns the newest checkpoint that is intact, or the state at step 0.

        Args:
          console: where is said what was found.
          changed: settings that may differ from those of the checkpoint.

        Raises:
          CheckpointError: the checkpoints are damaged, or do not fit the model.
          DataError: the checkpoint was trained on other data.
        """
        gradient = device_bytes(self._program.state.params)
        memory.check_room(
            device_bytes(self._program.state) + gradient,
            "the model with its optimiser and gradient",
            "take a smaller one, split it over more devices (config.mesh.fsdp), or take "
            "config.optimizer=sgd, which keeps less",
        )
        state = self._started(console, changed)
        self.experiment = self.task.prepared(state, console.say)
        if self.experiment is not self.task.experiment:
            self.evaluate = self.task.evaluator(self.experiment)
        return state

    def _started(self, console: Console, changed: Collection[str]) -> TrainState:
        restored = self.store.restore(self._program.state)
        if restored is None:
            return self._fresh()
        now = self.metadata()
        check_data(self.experiment.config.dataset, restored.metadata, now, changed)
        self.waiting_metrics = restored.metadata.get("waiting_metrics", [])
        console.say(f"resuming after step {restored.step}")
        self._check_whole(restored)
        self._guard.resume(restored.metadata.get("nonfinite", {}))
        if line := provenance_line(restored.metadata, now):
            console.say(line)
        return restored.state

    def _fresh(self) -> TrainState:
        """Returns the state at step 0; beside it the step is compiled, as XLA leaves cores idle."""
        start = self.task.start()
        if self.task.precomputes:  # what the step will get is known after the first state only
            return self._program.fresh_state(start)
        with ThreadPoolExecutor(1) as worker:
            state = worker.submit(self._program.fresh_state, start)
            self._program.compile()
            return state.result()

    def sealed(self, state: TrainState) -> dict[str, Any]:
        """Returns what the metadata of a checkpoint say of its arrays; waits for the device."""
        return {"state_digest": fingerprint.as_text(int(self._fingerprint(state)))}

    def digest(self, state: TrainState) -> Metrics:
        """Returns the digest of a state as a metric, if settings ask for one after each step."""
        asked = self.experiment.config.state_digests
        return {"state_digest": self._fingerprint(state)} if asked else {}

    def _fingerprint(self, state: TrainState) -> jax.Array:
        return fingerprint.fingerprint(state, replicated(self.experiment.mesh))

    def checks(self, digests: Path | None, step: int) -> list[Check]:
        """Returns what is to see the metrics of every step from `step` on.

        Args:
          digests: where the digest of the state after each step goes, if settings ask for it.
          step: the step that the run starts from.
        """
        if not self.experiment.config.state_digests:
            return [self._guard]
        file = MetricsFile(digests, step)

        def write_digest(step: int, measured: dict[str, Any]) -> None:
            digest = fingerprint.as_text(int(measured.pop("state_digest")))
            file.write(step, {"state_digest": digest})

        return [write_digest, self._guard]

    def stopping(self, step: int) -> bool:
        """Returns whether a signal asks to stop: any process, in all of them after the same step.

        Several processes ask each other only every `progress_every` steps, as it takes time.
        """
        if jax.process_count() == 1 or step % self.experiment.config.progress_every == 0:
            number = processes.largest(self.signals.received or 0)  # it may come at any moment
            self.signals.obeyed = signal.Signals(number) if number else None
        return self.signals.obeyed is not None

    def draw_contact_sheet(self, batch: Batch) -> None:
        """Draws the first batch as the model saw it; all processes take part, one draws."""
        shown = self.task.first_batch(self._program.settings, batch)
        if self._report is not None and shown is not None:
            images, captions = shown
            with pictures_spared(self._report):
                draw_contact_sheet(images, captions, self._report / "augmented.png")

    def metadata(self) -> dict[str, Any]:
        """Returns what a checkpoint says of itself besides its arrays."""
        return {
            "config": self.experiment.config.to_dict(),
            "class_names": list(self.experiment.class_names),
            "preprocess": self.experiment.preprocess.to_dict(),
            "train_examples": len(self.experiment.train.source),
            "train_listing": self.experiment.train_listing,
            "nonfinite": self._guard.counts(),
            **(self.experiment.texts.metadata() if self.experiment.texts else {}),
            **provenance(self.experiment.config, self.experiment.mesh),
        }

    def _check_whole(self, restored: Restored) -> None:
        """Raises CheckpointError if the state on the devices is not the one that was saved."""
        saved = restored.metadata.get("state_digest")
        if saved is None:  # a run of an earlier version
            return
        found = self.sealed(restored.state)["state_digest"]
        if found != saved:
            raise CheckpointError(
                f"{self.store.directory}/{restored.step}: the files are as they were written, but "
                f"the state read from them has digest {found}, not {saved}; take another step: "
                "move this folder away"
            )

    def summary(self) -> list[tuple[str, str]]:
        """Returns the rows of the table at the start."""
        experiment, config = self.experiment, self.experiment.config
        train, test, total = experiment.train, experiment.test, experiment.total_steps
        split = ", ".join(f"{axis} {n}" for axis, n in experiment.mesh.shape.items() if n > 1)
        kind = f"{jax.device_count()} {jax.devices()[0].device_kind}"
        what = f"{len(experiment.class_names)} classes"
        if experiment.texts is not None:
            what = "captions" if experiment.texts.templates == () else f"captions of {what}"
        where = "streamed from files"
        if train.loading.alter is not None:
            where = "augmented on the host"
        elif train.resident:
            where = "on the device"
        if self.task.precomputes:
            where = "as vectors"
        return [
            ("model", f"{describe_model(self.experiment.model)}, {config.pp.crop} px"),
            ("starts from", weights_of(config) or "initial values"),
            ("parameters", f"{trees.count(self._program.state.params):,}"),
            ("devices", f"{kind} ({split})" if split else kind),
            *self._memory(),
            ("data", f"{config.dataset}, {what}, {where}"),
            ("images", f"{len(train.source):,} to train on, {len(test.source):,} to test on"),
            (
                "steps",
                f"{total:,} of {config.batch} images "
                f"({total * config.batch / len(train.source):.1f} epochs)",
            ),
        ]

    def _memory(self) -> list[tuple[str, str]]:
        """Returns the row on what a device holds, where the mesh splits what it holds."""
        shape = self.experiment.mesh.shape
        if shape["fsdp"] * shape["tensor"] == 1:
            return []
        here, whole = device_bytes(self._program.state), trees.nbytes(self._program.state)
        share = f"{here / 1e6:,.1f} MB of parameters and optimiser on each device"
        return [("memory", f"{share}, of {whole / 1e6:,.1f} MB")]


@contextlib.contextmanager
def pictures_spared(report: Path) -> Iterator[None]:
    """Goes on without a picture that cannot be written: a run is more than what it shows."""
    try:
        yield
    except OSError as error:
        logger.warning("%s: a picture cannot be written (%s)", report, error.strerror or error)
