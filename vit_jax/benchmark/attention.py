"""`vit_jax benchmark attention`: each kernel alone, its time and its error."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vit_jax.benchmark import float64, workload
from vit_jax.benchmark.figures import Figures
from vit_jax.benchmark.steps import describe
from vit_jax.benchmark.timing import Spread, call_seconds, spread
from vit_jax.config import Config
from vit_jax.errors import ConfigError, nearest
from vit_jax.experiment import Experiment
from vit_jax.mesh import batch_shards
from vit_jax.models import kernels
from vit_jax.models.summary import AttentionSize, attention_size
from vit_jax.runtime import memory
from vit_jax.tables import console, table

Qkv = tuple[Array, Array, Array]  # query, key and value, each b n h c
Kernel = Callable[[Array, Array, Array], Array]

# What computes attention, by the names of `model.transformer.attention.kernel` but for "auto".
FUNCTIONS: dict[str, Kernel] = {
    "xla": kernels.plain_attention,
    "cudnn": kernels.fused_attention,
}
CHECKED_IMAGES = 2  # compared with float64: the sums of an image do not know of the others


@dataclasses.dataclass(frozen=True)
class KernelSpeed:
    """One kernel.

    Attributes:
      forward_ms, both_ms: the forward pass; that and the gradients of query, key and value.
      forward_error: largest difference from float64, over the largest value there.
      gradient_error: the same of the three gradients, whichever is worst.
    """

    forward_ms: Spread
    both_ms: Spread
    forward_error: float
    gradient_error: float


@dataclasses.dataclass(frozen=True)
class AttentionSpeed(Figures):
    """What `benchmark attention` found, on one device.

    Attributes:
      images: that one device has of a batch, or of a part of it with `accum_steps`.
      size: tokens, heads and width of a head.
      dtype: of query, key and value.
      kernels: {name: figures}.
      cannot_serve: {name: why not}, of the other kernels.
      what: model, size, dtype and devices.
    """

    images: int
    size: AttentionSize
    dtype: str
    kernels: dict[str, KernelSpeed]
    cannot_serve: dict[str, str]
    what: dict[str, str]


def benchmark_attention(
    config: Config, seconds: float = 5.0, asked: Sequence[str] = ()
) -> AttentionSpeed:
    """Measures attention kernels at the size of a config's model: one layer, without dropout.

    Args:
      config: all settings; `batch`, `accum_steps` and `mesh` say how many images a device has.
      seconds: of each measurement.
      asked: names of kernels; none is all that can serve here.

    Raises:
      ConfigError: an unknown kernel, one that cannot serve here, a model without attention, or
        too little memory.
      ConfigError, DataError: as `train`.
    """
    workload.check_seconds(seconds)
    _check_known(asked)
    experiment = workload.random_experiment(config)
    size = attention_size(experiment.model, experiment.preprocess.size)
    if size is None:
        raise ConfigError(
            f"config.model: {type(experiment.model).__name__} has no self-attention to measure; "
            "name a Vision Transformer"
        )
    images = config.batch // config.accum_steps // batch_shards(experiment.mesh)
    with memory.for_training(config):
        return _measure(experiment, images, size, seconds, asked)


def _measure(
    experiment: Experiment,
    images: int,
    size: AttentionSize,
    seconds: float,
    asked: Sequence[str],
) -> AttentionSpeed:
    dtype = jnp.dtype(experiment.model.dtype)
    qkv, cotangent = random_arrays((images, size.tokens, size.heads, size.width), dtype)
    reasons = {name: reason for name in FUNCTIONS if (reason := _why_not(name, cotangent))}
    for name in asked:
        if name in reasons:
            raise ConfigError(f"--kernel={name}: cannot serve here: {reasons[name]}")
    served = [name for name in asked or FUNCTIONS if name not in reasons]
    exact = exact_attention(qkv, cotangent)
    speeds = {n: kernel_speed(FUNCTIONS[n], qkv, cotangent, exact, seconds) for n in served}
    return AttentionSpeed(images, size, dtype.name, speeds, reasons, describe(experiment))


def random_arrays(shape: tuple[int, ...], dtype: jnp.dtype) -> tuple[Qkv, Array]:
    """Returns query, key and value, and a cotangent of the result, all normally distributed."""
    made = jax.jit(lambda key: jax.random.normal(key, (4, *shape)).astype(dtype))(jax.random.key(0))
    return (made[0], made[1], made[2]), made[3]


def exact_attention(qkv: Qkv, cotangent: Array) -> float64.Attention:
    """Returns the result and the gradients of the images that are checked, in float64."""
    return float64.attention(*(x[:CHECKED_IMAGES] for x in (*qkv, cotangent)))


def kernel_speed(
    function: Kernel, qkv: Qkv, cotangent: Array, exact: float64.Attention, seconds: float
) -> KernelSpeed:
    """Measures one kernel; the gradients are those of the sum of its result times `cotangent`."""
    forward, both = jax.jit(function), jax.jit(functools.partial(with_gradients, function))
    result, gradients = both(*qkv, cotangent)
    alone = forward(*qkv)
    return KernelSpeed(
        forward_ms=_milliseconds(forward, qkv, seconds),
        both_ms=_milliseconds(both, (*qkv, cotangent), seconds),
        forward_error=max(float64.error(x, exact.result) for x in (alone, result)),
        gradient_error=max(map(float64.error, gradients, exact.gradients)),
    )


def with_gradients(
    function: Kernel, query: Array, key: Array, value: Array, cotangent: Array
) -> tuple[Array, Qkv]:
    """Returns the result of a kernel, and its gradients by query, key and value.

    The cotangent is an argument as in a training step: of a constant, XLA would do the transposing
    and padding before anything is measured.
    """
    result, backward = jax.vjp(function, query, key, value)
    return result, backward(cotangent)


def _milliseconds(call: Callable[..., Any], arrays: Sequence[Array], seconds: float) -> Spread:
    return spread(call_seconds(lambda: call(*arrays), seconds), 1000.0)


def _check_known(asked: Sequence[str]) -> None:
    for name in asked:
        if name not in FUNCTIONS:
            raise ConfigError(
                f"--kernel={name}: is none of {', '.join(FUNCTIONS)}{nearest(name, FUNCTIONS)}"
            )


def _why_not(name: str, query: Array) -> str | None:
    return kernels.why_not_cudnn_here(query, dropout=False) if name == "cudnn" else None


def print_attention(speed: AttentionSpeed) -> None:
    """Prints the figures as a table."""
    size = speed.size
    out = console()
    out.print(
        f"{speed.images} images, {size.tokens} tokens, {size.heads} heads of {size.width}, "
        f"{speed.dtype}: milliseconds, and the largest relative difference from float64",
        soft_wrap=True,
    )
    print_kernels(speed.kernels)
    for name, reason in speed.cannot_serve.items():
        out.print(f"  {name} cannot serve here: {reason}", soft_wrap=True)


def print_kernels(kernels: dict[str, KernelSpeed]) -> None:
    """Prints a row for each: times in milliseconds, and errors."""
    rows = table(None, ["kernel"], ["forward", "forward + backward", "error", "of gradients"])
    for name, kernel in kernels.items():
        errors = f"{kernel.forward_error:.1e}", f"{kernel.gradient_error:.1e}"
        rows.add_row(name, str(kernel.forward_ms), str(kernel.both_ms), *errors)
    console().print(rows)
