"""The official model class, out of a checkout of google-research/vision_transformer."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict


def load_model(checkout: Path, classes: int, fields: dict[str, Any]) -> nn.Module:
    """Returns the official VisionTransformer; two files of the checkout are read, and no more.

    The official package has the name of this one. Its `models_vit` imports `models_resnet` from
    it, which is found because it was put among the loaded modules under that name.
    """
    _load(checkout, "models_resnet")
    models = _load(checkout, "models_vit")
    return models.VisionTransformer(num_classes=classes, **ConfigDict(fields))


def _load(checkout: Path, name: str) -> ModuleType:
    path = checkout / "vit_jax" / f"{name}.py"
    if not path.exists():
        raise SystemExit(f"--peer: {path} does not exist; give the root of an official checkout")
    spec = importlib.util.spec_from_file_location(f"vit_jax.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
