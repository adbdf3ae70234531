"""What kind of GPU this is, and what is asked of its compiler."""

import jax

AMPERE = 8.0  # the first compute capability with matrix units for bfloat16

# Leaves out kernels whose sums depend on which thread comes first, such as the backward pass of
# fused attention in its default form.
DETERMINISTIC = {"xla_gpu_exclude_nondeterministic_ops": True}


def compute_capability() -> float | None:
    """Returns that of this process's NVIDIA GPU, such as 9.0; None on any other device."""
    said = getattr(jax.local_devices()[0], "compute_capability", "")
    try:
        return float(said)
    except ValueError:  # AMD's are names, such as gfx942
        return None


def compiler_options(*, deterministic: bool) -> dict[str, bool] | None:
    """Returns the options of `jax.jit`; other backends compute the same bits each time anyway."""
    return DETERMINISTIC if deterministic and jax.default_backend() == "gpu" else None
