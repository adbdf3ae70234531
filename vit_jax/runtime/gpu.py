"""What kind of GPU this is."""

import jax

AMPERE = 8.0  # the first compute capability with matrix units for bfloat16


def compute_capability() -> float | None:
    """Returns that of this process's NVIDIA GPU, such as 9.0; None on any other device."""
    said = getattr(jax.local_devices()[0], "compute_capability", "")
    try:
        return float(said)
    except ValueError:  # AMD's are names, such as gfx942
        return None


def fast_dtype() -> str:
    """Returns "bfloat16" where this process's devices have matrix units for it, or "float32"."""
    capability = compute_capability()
    old = capability is not None and capability < AMPERE
    return "float32" if old or jax.default_backend() == "cpu" else "bfloat16"
