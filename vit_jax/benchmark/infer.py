"""`vit_jax benchmark infer`: the forward pass of a config's model, from pixels to logits."""

import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vit_jax import trees
from vit_jax.benchmark import workload
from vit_jax.benchmark.steps import StepSpeed, Work, measure
from vit_jax.config import Config, changed
from vit_jax.errors import ConfigError
from vit_jax.experiment import Experiment
from vit_jax.mesh import batch_sharding, batch_shards, make_mesh, state_sharding
from vit_jax.runtime import memory
from vit_jax.step import Batch


def benchmark_infer(
    config: Config,
    seconds: float = 5.0,
    batch: int | None = None,
    started: float | None = None,
) -> StepSpeed:
    """Measures `model(images, train=False)` on one batch of random images again and again.

    As in evaluation, images come as uint8 and are normalised on the device, and parameters lie as
    `config.mesh` says.

    Args:
      config: all settings; see `workload.random_experiment` for what stands in for the data.
      seconds: of timed steps.
      batch: images a step; None is `config.batch_eval`.
      started: when the user began to wait, by `time.perf_counter`; None is now.

    Raises:
      ConfigError: the batch cannot be split evenly over the devices, or does not fit their memory.
      ConfigError, DataError: as `train`.
    """
    workload.check_seconds(seconds)
    started = time.perf_counter() if started is None else started
    if batch is not None and batch < 1:
        raise ConfigError(f"--batch={batch}: must be at least 1")
    flag, images = ("config.batch_eval", config.batch_eval) if batch is None else ("--batch", batch)
    shards = batch_shards(make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    if images % shards:
        raise ConfigError(
            f"{flag}={images}: must be divisible by the {shards} devices that split a batch"
        )
    # Nothing is trained: what training would ask of its batch is not asked.
    sizes = {"batch": images, "batch_eval": images, "accum_steps": 1, "augment.repeats": 1}
    experiment = workload.random_experiment(changed(config, sizes))
    with memory.explained(f"inference with {flag}={images}", f"halve {flag}"):
        return measure(inference_work(experiment), seconds, started)


def inference_work(experiment: Experiment) -> Work:
    """Returns the forward pass on a batch of `config.batch_eval` random images."""
    model, preprocess = experiment.model, experiment.preprocess

    def forward(variables: trees.Tree, batch: Batch) -> Float[Array, "b k"]:
        pixels = preprocess.normalize(preprocess.on_device(batch["image"]))
        return jnp.asarray(model.apply(variables, pixels, train=False))

    program = jax.jit(forward, out_shardings=batch_sharding(experiment.mesh))
    batch = workload.evaluation_batch(experiment)
    return Work(
        experiment=experiment,
        program=program,
        step=lambda variables: (variables, program(variables, batch)),
        state=_initial_variables(experiment),
        batch=batch,
        images=experiment.test.batch,
        forward_passes=1,
    )


def _initial_variables(experiment: Experiment) -> trees.Tree:
    """Returns the model's initial values, on the devices."""

    def init() -> trees.Tree:
        blank = jnp.zeros((1, *experiment.preprocess.size, 3), jnp.float32)
        return experiment.model.init(jax.random.PRNGKey(0), blank, train=False)

    shardings = state_sharding(experiment.mesh, jax.eval_shape(init))
    return jax.jit(init, out_shardings=shardings)()
