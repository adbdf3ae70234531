"""Vision Transformers in JAX: official models, trained, resumed, evaluated.

Names are imported when first used, so that `import vit_jax` costs next to nothing. For use from
Python are also `vit_jax.train.train`, `vit_jax.predict`, `vit_jax.visualize.visualize` and
`vit_jax.models`; all else may change.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vit_jax.data.arrays import from_arrays
    from vit_jax.export.stablehlo import load_exported
    from vit_jax.models.zoo import create_model, list_models
    from vit_jax.pretrained import load_pretrained, load_run
    from vit_jax.recipes import load_config
    from vit_jax.release import convert, push_to_hub, save_pretrained

_HOMES = {
    "convert": "vit_jax.release",
    "create_model": "vit_jax.models.zoo",
    "from_arrays": "vit_jax.data.arrays",
    "list_models": "vit_jax.models.zoo",
    "load_config": "vit_jax.recipes",
    "load_exported": "vit_jax.export.stablehlo",
    "load_pretrained": "vit_jax.pretrained",
    "load_run": "vit_jax.pretrained",
    "push_to_hub": "vit_jax.release",
    "save_pretrained": "vit_jax.release",
}

__all__ = [
    "convert",
    "create_model",
    "from_arrays",
    "list_models",
    "load_config",
    "load_exported",
    "load_pretrained",
    "load_run",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vit_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
