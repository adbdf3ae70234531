"""BatchNorm over the whole global batch, on however many devices it lies."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def by_running_statistics(parts: Collection[str]) -> Callable[..., Any]:
    """Returns an interceptor of calls for `nn.intercept_methods`.

    Under it every `BatchNorm` inside these parts of a model, which are not trained, normalises by
    its running statistics in training too, and leaves them as they are.
    """

    def call(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and module.path[:1] and module.path[0] in parts:
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    return call


class BatchNorm(nn.Module):
    """Batch normalisation of feature maps (arXiv:1502.03167, algorithms 1 and 2).

    In training, each channel is normalised by its mean and (biased) variance over all images and
    positions, and the running statistics move by 1 - `momentum` towards this mean and, as in
    PyTorch and in the paper but not in flax, the unbiased variance. Otherwise the running
    statistics normalise. A batch that is split over a mesh counts as one: under `jit` these are
    means over a global array, so they are the same on every device, and as on one.

    Parameters: `scale`, `bias` (c). Statistics, in the collection `batch_stats`: `mean`, `var` (c).
    All are float32, as is the arithmetic; `dtype` is that of the result.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Returns the normalised maps; with `train`, `batch_stats` must be mutable."""
        shape = (1, 1, 1, x.shape[-1])
        scale = self.param("scale", nn.initializers.ones, shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape[-1:])
        running_var = self.variable("batch_stats", "var", jnp.ones, shape[-1:])

        x = x.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train and not self.is_initializing():
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            unbiased = var * (count / max(1, count - 1))
            running_mean.value = self._moved(running_mean.value, mean)
            running_var.value = self._moved(running_var.value, unbiased)
        slope = scale * jax.lax.rsqrt(var + self.epsilon)
        y = (x - mean.reshape(shape)) * slope.reshape(shape) + bias.reshape(shape)
        return y.astype(self.dtype)

    def _moved(self, old: Float[Array, " c"], new: Float[Array, " c"]) -> Float[Array, " c"]:
        return self.momentum * old + (1 - self.momentum) * new
