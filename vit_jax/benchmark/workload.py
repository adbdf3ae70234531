"""What is measured: the experiment of a config, on random images in the place of its data."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt8

from vit_jax.checkpoints.store import Store
from vit_jax.config import Config, changed
from vit_jax.data.datasets import ARRAYS, open_dataset
from vit_jax.errors import ConfigError, VitJaxError
from vit_jax.experiment import Experiment, build
from vit_jax.finetune import settled
from vit_jax.mesh import batch_sharding
from vit_jax.records.loggers import Console
from vit_jax.run import Run
from vit_jax.runtime.signals import StopSignals
from vit_jax.state import TrainState
from vit_jax.step import Batch


@dataclasses.dataclass(frozen=True)
class RandomImages:
    """A `Source` of noise, each image made when it is asked for.

    Attributes:
      size: (height, width) in pixels.
      count: how many images there are.
      num_classes: of the labels, which take turns.
    """

    size: tuple[int, int]
    count: int
    num_classes: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.num_classes)))

    @property
    def labels(self) -> Int32[np.ndarray, "n"]:
        return np.arange(self.count, dtype=np.int32) % self.num_classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
        noise = np.random.default_rng(index).integers(0, 256, (*self.size, 3), np.uint8)
        return noise, index % self.num_classes

    def name(self, index: int) -> str:
        return f"random image {index}"


def random_experiment(config: Config) -> Experiment:
    """Returns what `train` would build from a config, but for the data.

    Its images are random and of the size that the model sees; they come to the step as those of
    files do: cropped to `config.pp.crop`. What the host does to images is no part of a step.
    Pretrained weights decide the architecture, but are not loaded. With `config.num_classes` no
    data is opened; else the dataset is, to count its classes.

    Raises:
      ConfigError, DataError, CheckpointError: as `train`.
    """
    config = settled(config)
    count = max(config.batch, config.batch_eval)
    source = RandomImages(
        (config.pp.crop,) * 2, count, config.num_classes or _count_classes(config)
    )
    total = max(config.total_steps or 0, config.warmup_steps + 1)
    instead = {"dataset": ARRAYS, "cache_bytes": 0, "sampling": "shuffled"}
    instead |= {"epochs": None, "total_steps": total}
    instead |= {"model_or_filename": None, "pretrained_dir": None}
    sources = {config.pp.train: source, config.pp.test: source}
    return build(changed(config, instead), sources)


def start(experiment: Experiment, store: Store) -> tuple[Run, TrainState]:
    """Returns the compiled parts of a run, and its initial state on the devices."""
    run = Run(experiment, store, StopSignals())
    return run, run.start(Console(quiet=True))


def noisy(state: TrainState) -> TrainState:
    """Returns a state of noise like this one: the zeros of a first step would be packed small.

    One leaf after the other: a single program of all takes XLA minutes to compile, on a CPU.
    """
    leaves, kind = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return kind.unflatten(_noise(key, leaf) for key, leaf in zip(keys, leaves, strict=True))


def _noise(key: jax.Array, leaf: jax.Array) -> jax.Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return jax.device_put(jax.random.normal(key, leaf.shape, leaf.dtype), leaf.sharding)


def training_batch(experiment: Experiment) -> Batch:
    """Returns a batch of training, made on the devices."""
    return _batch(experiment, experiment.config.batch, ("epoch", "index"))


def evaluation_batch(experiment: Experiment) -> Batch:
    """Returns a batch of evaluation without padding, made on the devices."""
    return _batch(experiment, experiment.test.batch, ("index", "mask"))


def _batch(experiment: Experiment, count: int, rows: tuple[str, ...]) -> Batch:
    """Returns a batch as `Feed` makes them of streamed images, with `rows` beside its labels."""

    def make() -> Batch:
        numbers = jnp.arange(count, dtype=jnp.int32)
        kinds = {"index": numbers, "epoch": 0 * numbers, "mask": jnp.ones(count, jnp.float32)}
        shape = (count, *experiment.preprocess.size, 3)
        # Knuth's multiplicative hash: noise that takes no second of a start to compile.
        noise = jnp.arange(math.prod(shape), dtype=jnp.uint32) * jnp.uint32(2654435761) >> 24
        labels = numbers % len(experiment.class_names)
        images = noise.astype(jnp.uint8).reshape(shape)
        return {"image": images, "label": labels} | {name: kinds[name] for name in rows}

    return jax.jit(make, out_shardings=batch_sharding(experiment.mesh))()


def check_seconds(seconds: float) -> None:
    """Raises ConfigError unless there is time to measure in."""
    if not seconds > 0:
        raise ConfigError(f"--seconds={seconds:g}: must be positive")


def _count_classes(config: Config) -> int:
    places = config.tfds_data_dir, config.tfds_manual_dir
    try:
        return len(open_dataset(config.dataset, config.pp.train, None, *places).class_names)
    except VitJaxError as error:
        hint = "; or give --config.num_classes=N, and no data is needed"
        raise type(error)(f"{error}{hint}") from error
