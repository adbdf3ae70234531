"""The step and the state of a run, as its settings describe them; nothing is compiled yet."""

import dataclasses
import functools
from collections.abc import Mapping

import jax

from vit_jax import trees
from vit_jax.data.augmentation import make_augmentation
from vit_jax.experiment import Experiment
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.state import TrainState, abstract_state, fresh_state, initial_state
from vit_jax.step import StepSettings, compiled, make_train_step
from vit_jax.tasks import Task


class TrainingProgram:
    """The training step of a run, and the state that it starts from.

    Attributes:
      state: shape, dtype and sharding of every leaf of the state.
      batch: those of the batch.
      settings: of the step.
      step: `state, metrics = step(state, batch)`, under `jit`.
    """

    def __init__(self, task: Task):
        experiment, beginning = task.experiment, task.beginning
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
            beginning=beginning,
        )
        self.state = abstract_state(experiment.mesh, jax.eval_shape(self._initial, None))
        self.batch = experiment.train.training_shapes()
        self.settings = step_settings(experiment, beginning.locked)
        objective = task.objective(self.settings)
        step = make_train_step(experiment.model, optimizer, schedule, self.settings, objective)
        self.step = compiled(step, experiment.mesh, self.state, deterministic=config.deterministic)

    def fresh_state(self, start: Mapping[str, trees.Tree] | None) -> TrainState:
        """Returns the state at step 0, on the devices; `start` as `state.fresh_state` takes it."""
        return fresh_state(self._initial, self.state, start)

    def compile(self) -> jax.stages.Compiled:
        """Returns the step, compiled for batches as the data give them; `step` has it then too."""
        return self.step.lower(self.state, self.batch).compile()


def step_settings(experiment: Experiment, locked: tuple[str, ...] = ()) -> StepSettings:
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
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
        locked=locked,
        guarded=True,
    )
