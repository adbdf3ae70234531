"""What a run learns: each task supplies the parts of the one loop that depend on it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from vit_jax import trees
from vit_jax.config import Config, changed
from vit_jax.contact_sheet import first_batch
from vit_jax.evaluate import Evaluator, evaluate_run
from vit_jax.experiment import Arrays, Experiment
from vit_jax.experiment import build as build_classifier
from vit_jax.finetune import locked_parts, starting_tower, starting_variables
from vit_jax.image_text.contrastive import make_compare
from vit_jax.image_text.experiment import build_pairs, precomputed
from vit_jax.image_text.scores import Retrieval, Retrieved, ZeroShot
from vit_jax.image_text.vectors import embedded
from vit_jax.mesh import mesh_as_trained, sent_in_shares
from vit_jax.models.lit import LitModel
from vit_jax.pair_model import image_tower
from vit_jax.pretrained import Trained
from vit_jax.records.scores import Outcomes
from vit_jax.runtime import memory, processes
from vit_jax.state import Beginning, TrainState
from vit_jax.step import (
    Batch,
    Loss,
    Objective,
    StepSettings,
    augmented,
    classification,
    dropout_key,
)

Scored = Outcomes | Retrieved
Say = Callable[[str], None]  # tells a person a line
_IMAGES = "img"  # the image tower, among the parameters


@runtime_checkable
class Task(Protocol):
    """The parts of a run that depend on what it learns.

    Attributes:
      experiment: what the config describes.
      beginning: how the state begins.
      precomputes: whether the images are made vectors before training.
    """

    experiment: Experiment
    beginning: Beginning
    precomputes: bool

    def start(self) -> Mapping[str, trees.Tree] | None:
        """Returns the variables that are not initial values, as `fresh_state` takes them."""
        ...

    def objective(self, settings: StepSettings) -> Objective:
        """Returns what a step makes smaller."""
        ...

    def prepared(self, state: TrainState, say: Say) -> Experiment:
        """Returns the experiment as it is trained on, once the first state is there; may `say`."""
        ...

    def evaluator(self, experiment: Experiment) -> Any:
        """Returns what scores variables on the test split."""
        ...

    def first_batch(
        self, settings: StepSettings, batch: Batch
    ) -> tuple[UInt8[np.ndarray, "n h w 3"], list[str]] | None:
        """Returns images of a batch as the model sees them, with what belongs to each, or None."""
        ...


class Classify:
    """To tell the classes of images."""

    def __init__(self, experiment: Experiment):
        self.experiment, self.precomputes = experiment, False
        self.beginning = Beginning(locked=_locked(experiment))

    def start(self) -> Mapping[str, trees.Tree] | None:
        return starting_variables(self.experiment)

    def objective(self, settings: StepSettings) -> Objective:
        return classification(self.experiment.model, settings)

    def prepared(self, state: TrainState, say: Say) -> Experiment:
        return self.experiment

    def evaluator(self, experiment: Experiment) -> Evaluator:
        return Evaluator(experiment.model, experiment.test, experiment.preprocess)

    def first_batch(
        self, settings: StepSettings, batch: Batch
    ) -> tuple[UInt8[np.ndarray, "n h w 3"], list[str]] | None:
        return first_batch(settings, batch, self.experiment.mesh, self.experiment.shown_names)


class Contrast:
    """To tell which captions belong to which images (arXiv:2111.07991)."""

    def __init__(self, experiment: Experiment):
        self.experiment, config = experiment, experiment.config
        self.precomputes = precomputed(config)
        values = {"t": float(np.log(config.temperature))}
        if config.loss == "sigmoid":
            values["b"] = config.pair_bias
        locked = (_IMAGES,) if config.lock_image else ()
        self.beginning = Beginning(values, locked, config.locked_dtype if locked else "float32")

    def start(self) -> Mapping[str, trees.Tree] | None:
        """Returns the pretrained image tower."""
        experiment = self.experiment
        tower, _ = image_tower(_lit(experiment), {})
        found = starting_tower(experiment.config, tower, experiment.preprocess.size)
        return {name: {_IMAGES: tree} for name, tree in found.items() if tree} or None

    def objective(self, settings: StepSettings) -> Objective:
        experiment = self.experiment
        model, config = _lit(experiment), experiment.config
        compare = make_compare(experiment.mesh, config.loss, config.logits_bytes)

        def objective(stats: trees.Tree, rows: Batch, base: Any, key: Any) -> Loss:
            # Vectors, where they were computed before.
            images = rows["image"]
            images = images if images.ndim == 2 else augmented(settings, rows, base)
            dropout = dropout_key(key)

            def loss(params: trees.Tree) -> tuple[Array, tuple[trees.Tree, Array]]:
                variables = {"params": params, "batch_stats": stats}
                zimg, changed = _embed(model, variables, images, config.lock_image, dropout)
                found: Any = model.apply(
                    variables, None, rows["tokens"], train=True, rngs={"dropout": dropout}
                )
                _, ztxt, scale = found
                bias = params["b"][0] if "b" in params else jnp.zeros(())
                mask = jnp.ones(len(rows["label"]))
                compared = compare(zimg, ztxt, scale[0], bias, mask)
                return compared.loss, (changed, compared.accuracy)

            return loss

        return objective

    def prepared(self, state: TrainState, say: Say) -> Experiment:
        """Returns the experiment with vectors for images, where they are computed before."""
        if not self.precomputes:
            return self.experiment
        return embedded(self.experiment, state.eval_variables(), say)

    def evaluator(self, experiment: Experiment) -> ZeroShot | Retrieval:
        return pair_evaluator(experiment)

    def first_batch(
        self, settings: StepSettings, batch: Batch
    ) -> tuple[UInt8[np.ndarray, "n h w 3"], list[str]] | None:
        return None


def pair_evaluator(experiment: Experiment) -> ZeroShot | Retrieval:
    """Returns what scores an image-text model: on classes where captions are made of them."""
    assert experiment.texts is not None
    return ZeroShot(experiment) if experiment.texts.templates else Retrieval(experiment)


def score_run(trained: Trained, arrays: Arrays | None = None) -> Scored:
    """Scores a trained model on the test split of the config it was trained with.

    Args:
      trained: the model.
      arrays: {"test": source} where that config's dataset is "arrays".

    Raises:
      ConfigError, DataError, CheckpointError: data or vocabulary are not there, or do not fit.
    """
    if trained.config.task == "classify":
        return evaluate_run(trained, arrays)
    config = trained.config
    sizes = mesh_as_trained(config.mesh.fsdp, config.mesh.tensor).shape
    here = {f"mesh.{axis}": size for axis, size in sizes.items()}
    changes = {**here, "pp.train": config.pp.test}
    experiment = build_pairs(changed(config, changes), arrays, trained.workdir.vocabulary)
    processes.check_agreed(config.dataset, experiment.data())
    variables = sent_in_shares(experiment.mesh, trained.variables)
    with memory.for_evaluation(config):
        return pair_evaluator(experiment)(variables)


def _embed(
    model: LitModel, variables: trees.Tree, images: Array, locked: bool, dropout: Any
) -> tuple[Array, trees.Tree]:
    """Returns the vectors of images, and the batch statistics after them."""
    stats = variables["batch_stats"]
    if images.ndim == 2:
        return images, stats
    if locked:
        return model.apply(variables, images, train=False)[0], stats
    (vectors, *_), updates = model.apply(
        variables, images, train=True, rngs={"dropout": dropout}, mutable=["batch_stats"]
    )
    return vectors, updates.get("batch_stats", stats)


def _lit(experiment: Experiment) -> LitModel:
    assert isinstance(experiment.model, LitModel)
    return experiment.model


def build(
    config: Config, arrays: Arrays | None = None, vocabulary: Path | None = None
) -> Experiment:
    """Opens the devices, the data and the model that a config describes; see `Experiment`.

    Args:
      config: all settings.
      arrays: {split: source} where `config.dataset` is "arrays".
      vocabulary: a copy of the tokenizer's file, which is taken where it exists.

    Raises:
      ConfigError, DataError, CheckpointError: what does not exist, or does not fit together.
    """
    if config.task == "contrast":
        return build_pairs(config, arrays, vocabulary)
    experiment = build_classifier(config, arrays)
    _locked(experiment)  # a wrong name is told before there is a workdir
    return experiment


def _locked(experiment: Experiment) -> tuple[str, ...]:
    return locked_parts(experiment.config, experiment.model, experiment.preprocess.size)


def task_of(experiment: Experiment) -> Task:
    """Returns what a run of an experiment learns."""
    return Classify(experiment) if experiment.texts is None else Contrast(experiment)
