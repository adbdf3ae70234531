"""What is asked of XLA besides its defaults."""

import os

import jax

# Leaves out kernels whose sums depend on which thread comes first, such as the backward pass of
# fused attention in its default form.
DETERMINISTIC = {"xla_gpu_exclude_nondeterministic_ops": True}
_LEVEL = "xla_backend_optimization_level"


def for_steps(*, deterministic: bool) -> dict[str, bool] | None:
    """Returns the options of `jax.jit` for a training step.

    With `deterministic` a GPU computes the same bits each time, as other backends do anyway.
    """
    return DETERMINISTIC if deterministic and jax.default_backend() == "gpu" else None


def for_one_run() -> dict[str, int] | None:
    """Returns those for a program that runs once: a CPU's compiler is done a fifth sooner."""
    said = _LEVEL in os.environ.get("XLA_FLAGS", "")  # which these options would override
    return {_LEVEL: 1} if jax.default_backend() == "cpu" and not said else None
