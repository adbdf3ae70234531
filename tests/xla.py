"""XLA's flags in tests. Imports nothing: they must be set before JAX is imported."""

import os

# Most of the tests' time is XLA's: programs are compiled in half of it where they need not be fast.
# tests/test_as_shipped.py has those that compare numbers run again as users' programs are compiled.
_IN_A_HURRY = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
)


def flags(devices: int = 1) -> str:
    """Returns the value of XLA_FLAGS for a process with so many (virtual) CPU devices."""
    chosen = [] if "VIT_JAX_AS_SHIPPED" in os.environ else [*_IN_A_HURRY]
    if devices > 1:
        chosen.append(f"--xla_force_host_platform_device_count={devices}")
    return " ".join(chosen)
