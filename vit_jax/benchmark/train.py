"""`vit_jax benchmark train`: the training step of a config, its batch already on the devices."""

import tempfile
import time
from pathlib import Path

from vit_jax.benchmark import workload
from vit_jax.benchmark.steps import StepSpeed, Work, measure
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config
from vit_jax.experiment import Experiment
from vit_jax.runtime import memory

FORWARD_PASSES = 3  # the backward pass has two products for each one of the forward pass


def benchmark_train(
    config: Config, seconds: float = 5.0, started: float | None = None
) -> StepSpeed:
    """Measures the step that `train` takes, on one batch of random images again and again.

    Args:
      config: all settings; see `workload.random_experiment` for what stands in for the data.
      seconds: of timed steps.
      started: when the user began to wait, by `time.perf_counter`; None is now.

    Raises:
      ConfigError, DataError: as `train`; also if the devices have too little memory.
    """
    workload.check_seconds(seconds)
    started = time.perf_counter() if started is None else started
    experiment = workload.random_experiment(config)
    with (
        memory.for_training(config),
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder), keep=1) as store,
    ):
        return measure(training_work(experiment, store), seconds, started)


def training_work(experiment: Experiment, store: Store) -> Work:
    """Returns the step of `train` on a batch of random images; the store stays as it is."""
    run, state = workload.start(experiment, store)
    batch = workload.training_batch(experiment)
    return Work(
        experiment=experiment,
        program=run.step,
        step=lambda state: run.step(state, batch),
        state=state,
        batch=batch,
        images=experiment.config.batch,
        forward_passes=FORWARD_PASSES,
    )
