"""Training: data → step → log → evaluate → save → stop?, in this order."""

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vit_jax import processes, trees
from vit_jax.checkpoints.lock import WorkdirLock
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config, to_json
from vit_jax.contact_sheet import draw_contact_sheet, first_batch
from vit_jax.data.augmentation import make_augmentation
from vit_jax.data.pipeline import Batch
from vit_jax.errors import DataError
from vit_jax.evaluate import Evaluator
from vit_jax.experiment import Arrays, Experiment, build
from vit_jax.finetune import settled, starting_variables, weights_of
from vit_jax.loggers import Console, MetricsFile, Recorder, read_metrics, score_line
from vit_jax.models.mixer import MlpMixer
from vit_jax.models.stems import patch_size
from vit_jax.models.zoo import Model
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.plots import draw_curves
from vit_jax.signals import StopSignals
from vit_jax.state import TrainState, abstract_state, initial_state
from vit_jax.step import StepSettings, compiled, make_train_step
from vit_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended: steps taken, test scores (None if stopped early), exit code."""

    step: int
    scores: dict[str, float] | None
    exit_code: int = 0


def train(
    config: Config,
    workdir: str,
    console: Console | None = None,
    arrays: Arrays | None = None,
) -> Result:
    """Trains what a config describes, or goes on where an earlier run in the workdir stopped.

    The workdir then holds `config.json`, `metrics.jsonl`, `checkpoints/` and `report/`. The state
    after any step is a function of the config alone: a run that was killed, at whatever point, and
    started again ends with the same bits as one that was not.

    Args:
      config: all settings.
      workdir: the folder of the run.
      console: where progress is shown; None makes one.
      arrays: {"train": source, "test": source} where `config.dataset` is "arrays", made by
        `from_arrays` or any other `Source`; pass the same again to resume.

    Raises:
      ConfigError, DataError, CheckpointError: settings, data or workdir are not usable.
      NonFiniteError: loss or gradient overflowed; the last checkpoint stays as it is.
    """
    place, is_first = Workdir(workdir), processes.is_first()
    console = console or Console(quiet=not is_first)
    config = place.inherited(config)
    place.check(config)
    experiment = build(config if place.config.exists() else settled(config), arrays)
    config = experiment.config
    processes.check_agreed("settings", to_json(config))
    processes.check_agreed(config.dataset, experiment.data())
    with (
        StopSignals() as signals,
        WorkdirLock(place.root) if is_first else contextlib.nullcontext(),
        Store(place.checkpoints, keep=config.keep_checkpoints) as store,
    ):
        if is_first:
            place.write_config(config)
        run = Run(experiment, store, signals, place.report if is_first else None)
        console.table(f"vit_jax train → {workdir}", run.summary())
        state = run.start(console)
        metrics_file = MetricsFile(place.metrics if is_first else None, int(state.step))
        result = loop(run, state, metrics_file, console)
        store.wait()
    if is_first:
        draw_report(place, experiment)
    say_end(console, workdir, experiment, result, signals)
    return result


def loop(run: "Run", state: TrainState, file: MetricsFile, console: Console) -> Result:
    """Takes the steps that are left; the last state is saved, or on its way to disk."""
    first, total, config = int(state.step), run.experiment.total_steps, run.experiment.config
    feed = run.experiment.train
    recorder = Recorder(
        file, console, total, config.progress_every, config.batch, lambda: feed.skipped
    )
    scores, step = None, first
    batches = recorder.timed(feed.training(first, total))
    with console.showing(first, total):
        for step, batch in enumerate(batches, first + 1):
            state, measured = run.step(state, batch)
            recorder.push(step, measured)
            if step == 1:
                with recorder.paused():
                    run.draw_contact_sheet(batch)
            if due(step, config.eval_every, total):
                with recorder.paused():
                    scores = run.evaluate(state.eval_variables())
                recorder.scores(step, scores)
            stopping = run.stopping(step)
            if due(step, config.checkpoint_every, total) or stopping:
                with recorder.paused():
                    run.store.save(step, state, run.metadata())
            if stopping:
                break
        recorder.settle()
    if step < total:
        return Result(step, None, run.signals.exit_code)
    # A run that had ended already is scored again.
    return Result(step, scores or run.evaluate(state.eval_variables()))


def due(step: int, every: int, total: int) -> bool:
    """Returns whether something done every so many steps, and at the last one, is due."""
    return step % every == 0 or step == total


class Run:
    """The compiled parts of a run, and where its state comes from.

    Args:
      experiment: devices, data and model.
      store: of the checkpoints.
      signals: that end the run early.
      report: the folder for pictures; None draws none.
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
        config = experiment.config
        schedule = make_schedule(
            experiment.total_steps, config.base_lr, config.decay_type, config.warmup_steps
        )
        optimizer = make_optimizer(config, schedule)
        self._initial = functools.partial(
            initial_state,
            experiment.model,
            optimizer,
            experiment.preprocess.size,
            config.seed,
            ema=config.ema_decay > 0,
        )
        self._abstract = abstract_state(experiment.mesh, jax.eval_shape(self._initial, None))
        self._settings = step_settings(experiment)
        step = make_train_step(experiment.model, optimizer, schedule, self._settings)
        self.step = compiled(step, experiment.mesh, self._abstract)
        self.evaluate = Evaluator(experiment.model, experiment.test, experiment.preprocess)

    def start(self, console: Console) -> TrainState:
        """Returns the newest checkpoint that is intact, or the state at step 0."""
        restored = self.store.restore(self._abstract)
        if restored is None:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, self._abstract)
            start = starting_variables(self.experiment)
            return jax.jit(self._initial, out_shardings=shardings)(start)
        self._check_same_data(restored.metadata)
        console.say(f"resuming after step {restored.step}")
        return restored.state

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
        images, captions = first_batch(
            self._settings, batch, self.experiment.mesh, self.experiment.class_names
        )
        if self._report is not None:
            draw_contact_sheet(images, captions, self._report / "augmented.png")

    def metadata(self) -> dict[str, Any]:
        """Returns what a checkpoint says of itself besides its arrays."""
        return {
            "config": self.experiment.config.to_dict(),
            "class_names": list(self.experiment.class_names),
            "preprocess": self.experiment.preprocess.to_dict(),
            "train_examples": len(self.experiment.train.source),
        }

    def _check_same_data(self, saved: Mapping[str, Any]) -> None:
        now = self.metadata()
        for what in ("class_names", "train_examples"):
            if saved[what] != now[what]:
                raise DataError(
                    f"{self.experiment.config.dataset}: has {what} {now[what]}, but the run in "
                    f"this workdir was trained on {saved[what]}; restore the data, or use another "
                    "workdir"
                )

    def summary(self) -> list[tuple[str, str]]:
        """Returns the rows of the table at the start."""
        experiment, config = self.experiment, self.experiment.config
        train, test, total = experiment.train, experiment.test, experiment.total_steps
        split = ", ".join(f"{axis} {n}" for axis, n in experiment.mesh.shape.items() if n > 1)
        kind = f"{jax.device_count()} {jax.devices()[0].device_kind}"
        where = "streamed from files"
        if train.loading.alter is not None:
            where = "augmented on the host"
        elif train.resident:
            where = "on the device"
        return [
            ("model", f"{describe(self.experiment.model)}, {config.pp.crop} px"),
            ("starts from", weights_of(config) or "initial values"),
            ("parameters", f"{trees.count(self._abstract.params):,}"),
            ("devices", f"{kind} ({split})" if split else kind),
            ("data", f"{config.dataset}, {len(experiment.class_names)} classes, {where}"),
            ("images", f"{len(train.source):,} to train on, {len(test.source):,} to test on"),
            (
                "steps",
                f"{total:,} of {config.batch} images "
                f"({total * config.batch / len(train.source):.1f} epochs)",
            ),
        ]


def describe(model: Model) -> str:
    """Returns the name of a model, or the sizes of one that has none."""
    if model.model_name is not None:
        return model.model_name
    if isinstance(model, MlpMixer):
        kind, blocks, wide, stem = "Mixer", model.num_blocks, model.hidden_dim, None
    else:
        kind, wide, stem = "ViT", model.hidden_size, model.stem
        blocks = model.transformer["num_layers"] if model.transformer else 0
    tokens = f"{stem} stem" if stem else "patches {} x {}".format(*patch_size(model.patches))
    return f"{kind} of {blocks} blocks, {wide} wide, {tokens}"


def step_settings(experiment: Experiment) -> StepSettings:
    """Returns what the step does to its batch; streamed images were cropped on the host."""
    config, resident = experiment.config, experiment.train.resident
    augmentation = make_augmentation(config.augment.to_dict())
    if not resident:
        augmentation = dataclasses.replace(augmentation, crop_area=None)
    return StepSettings(
        num_classes=len(experiment.class_names),
        preprocess=experiment.preprocess,
        augmentation=augmentation,
        seed=config.seed,
        accum_steps=config.accum_steps,
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
    )


def draw_report(place: Workdir, experiment: Experiment) -> None:
    """Draws the pictures of `report/` from metrics.jsonl."""
    if place.metrics.exists():
        config = experiment.config
        name, data = describe(experiment.model), Path(config.dataset).name
        title = f"{name}, {config.pp.crop} px, on {data}, seed {config.seed}"
        draw_curves(read_metrics(place.metrics), place.report / "curves.png", title)


def say_end(
    console: Console, workdir: str, experiment: Experiment, result: Result, signals: StopSignals
) -> None:
    """Says how a run ended, where it lies, and what to do next."""
    if result.scores is None:
        name = signals.obeyed.name if signals.obeyed else "?"
        console.say(f"stopped by {name} after step {result.step} of {experiment.total_steps}")
    else:
        console.say(score_line(result.scores, experiment.test.scored))
    console.say(f"checkpoint  {workdir}/checkpoints/{result.step}")
    console.say(f"report      {workdir}/report/curves.png")
    if result.scores is None:
        console.say("resume      the same command again")
    else:
        console.say(f"predict     vit_jax predict --checkpoint={workdir} IMAGE…")
