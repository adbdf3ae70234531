"""Packages that one thing needs and nobody else: is it here, and if not, how to get it."""

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

from vit_jax.errors import ConfigError


def check_installed(packages: Sequence[str], extra: str, what: str) -> None:
    """Raises `ConfigError` with pip's command if a package is not there; imports none."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: pip install 'vit_jax[{extra}]'")


def imported(package: str, extra: str, what: str) -> Any:
    """Imports a package of an extra; what it warns of while it is imported is its own affair.

    Args:
      package: as in an import.
      extra: of vit_jax, that brings it.
      what: needs it, as the user knows it.

    Raises:
      ConfigError: it is not there, or does not run here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{what} needs {package}, which cannot be imported ({reason}): "
            f"pip install 'vit_jax[{extra}]'"
        ) from error
