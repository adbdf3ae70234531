"""Training: data → step → log → evaluate → save → stop?, in this order."""

import contextlib
import dataclasses
import shlex
from collections.abc import Collection, Iterator, Sequence

from vit_jax.checkpoints.lock import WorkdirLock
from vit_jax.checkpoints.retention import Retention
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config, to_json
from vit_jax.experiment import Arrays, Experiment
from vit_jax.finetune import settled
from vit_jax.pictures.report import draw_report
from vit_jax.records import trackers
from vit_jax.records.loggers import Check, Console, Recorder
from vit_jax.records.metrics_file import MetricsFile, Record, last_step
from vit_jax.records.scores import score_line
from vit_jax.run import Run
from vit_jax.runtime import memory, processes, watchdog
from vit_jax.runtime.ending import at_once_on_loss
from vit_jax.runtime.signals import StopSignals
from vit_jax.saving import Saving
from vit_jax.state import TrainState
from vit_jax.tasks import Scored, build
from vit_jax.workdir import Workdir, shown


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended: steps taken, what became of the test images (None if stopped early)."""

    step: int
    outcomes: Scored | None
    exit_code: int = 0

    @property
    def scores(self) -> dict[str, float] | None:
        """Test scores, as `summary` of the outcomes gives them; None if stopped early."""
        return self.outcomes and self.outcomes.summary()


def train(
    config: Config,
    workdir: str,
    console: Console | None = None,
    arrays: Arrays | None = None,
    changed: Collection[str] = (),
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
      changed: settings that may differ from those of the run in the workdir though they change its
        numbers, such as "base_lr"; with "dataset", its images too.

    Raises:
      ConfigError, DataError, CheckpointError: settings, data or workdir are not usable.
      NonFiniteError: loss or gradient overflowed; the last checkpoint stays as it is.
    """
    place, is_first = Workdir(workdir), processes.is_first()
    console = console or Console(quiet=not is_first)
    config = place.inherited(config)
    differing = place.check(config, changed)
    given = config if place.config.exists() else settled(config)
    experiment = build(given, arrays, place.vocabulary)
    config = experiment.config
    processes.check_agreed("settings", to_json(config))
    processes.check_agreed(config.dataset, experiment.data())
    with (
        StopSignals() as signals,
        WorkdirLock(place.root) if is_first else contextlib.nullcontext(),
        Store(place.checkpoints, keep=retention(config)) as store,
        at_once_on_loss(),
    ):
        run = Run(experiment, store, signals, place.report if is_first else None)
        console.table(f"vit_jax train → {workdir}", run.summary())
        with memory.for_training(config):
            state = run.start(console, changed)
            step = int(state.step)
            if differing:
                console.say(f"settings changed: {shown(differing)}")
            if is_first:
                place.adopt(config, step, differing)
                if experiment.texts is not None:
                    place.keep_vocabulary(experiment.texts.tokenizer.vocabulary.content)
            checks = run.checks(place.digests if is_first else None, step)
            with tracking(config, place, step, is_first, run.waiting_metrics) as file:
                result, state = loop(run, state, file, console, checks)
    watchdog.dismiss()
    experiment = run.experiment
    if is_first:
        variables = state.eval_variables() if result.outcomes else None
        draw_report(place, experiment, result.outcomes, variables)
    say_end(console, workdir, experiment, result, signals)
    return result


@contextlib.contextmanager
def tracking(
    config: Config, place: Workdir, step: int, is_first: bool, waiting: Sequence[Record] = ()
) -> Iterator[MetricsFile]:
    """Yields where metrics go from a step on: nowhere, but for the first process."""
    if not is_first:
        yield MetricsFile(None, step)
        return
    recorded = last_step(place.metrics) if config.trackers else 0
    with trackers.opened(config, place, step, recorded) as found:
        file = MetricsFile(place.metrics, step, waiting, found)
        yield file
        file.finish()


def loop(
    run: Run,
    state: TrainState,
    file: MetricsFile,
    console: Console,
    checks: Sequence[Check] = (),
) -> tuple[Result, TrainState]:
    """Takes the steps that are left; the last state, also returned, is then saved."""
    first, total, config = int(state.step), run.experiment.total_steps, run.experiment.config
    feed = run.experiment.train
    recorder = Recorder(
        file, console, total, config.progress_every, config.batch, lambda: feed.skipped, checks
    )
    saving = Saving(run.store, config)
    outcomes, step = None, first
    batches = recorder.timed(feed.training(first, total))
    with console.showing(first, total):
        for step, batch in enumerate(batches, first + 1):
            state, measured = run.step(state, batch)
            recorder.push(step, measured | run.digest(state))
            saving.check(step)
            if step == 1:
                with recorder.paused():
                    run.draw_contact_sheet(batch)
            scores = None
            if due(step, config.eval_every, total):
                with recorder.paused():
                    outcomes = evaluated(run, state)
                scores = outcomes.summary()
                recorder.scores(step, scores)
            stopping = run.stopping(step)
            if due(step, config.checkpoint_every, total) or stopping:
                with recorder.paused():
                    told = {"scores": scores, "waiting_metrics": file.secured()}
                    saving.save(step, state, run.metadata() | run.sealed(state) | told)
            if stopping:
                break
        recorder.settle()
        saving.finish()
    if step < total:
        return Result(step, None, run.signals.exit_code), state
    # A run that had ended already is scored again.
    return Result(step, outcomes or evaluated(run, state)), state


def evaluated(run: Run, state: TrainState) -> Scored:
    """Returns what a state makes of the test images; ConfigError if memory does not suffice."""
    with memory.for_evaluation(run.experiment.config):
        return run.evaluate(state.eval_variables())


def due(step: int, every: int, total: int) -> bool:
    """Returns whether something done every so many steps, and at the last one, is due."""
    return step % every == 0 or step == total


def retention(config: Config) -> Retention:
    """Returns which checkpoints of a run stay."""
    return Retention(config.keep_checkpoints, config.keep_every, config.keep_best)


def say_end(
    console: Console, workdir: str, experiment: Experiment, result: Result, signals: StopSignals
) -> None:
    """Says how a run ended, where it lies, and what to do next."""
    scores = result.scores
    if scores is None:
        name = signals.obeyed.name if signals.obeyed else "?"
        console.say(f"stopped by {name} after step {result.step} of {experiment.total_steps}")
    else:
        console.say(score_line(scores, experiment.test.scored))
    console.say(f"checkpoint  {workdir}/checkpoints/{result.step}")
    console.say(f"report      {workdir}/report/index.html")
    if scores is None:
        console.say("resume      the same command again")
    elif experiment.texts is not None:
        console.say(f"evaluate    vit_jax evaluate --workdir={shlex.quote(workdir)}")
    else:
        console.say(f"predict     vit_jax predict --checkpoint={shlex.quote(workdir)} IMAGE…")
