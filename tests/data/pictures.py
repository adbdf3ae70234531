"""Images and image folders made for a test."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_jax.data.pipeline import Feed, Loading
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import Source
from vit_jax.mesh import batch_sharding, make_mesh


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns random pixels (h, w, 3): no two images, rows or columns are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Returns pixels (h, w, 3) that JPEG keeps well: a slope in each direction, and a constant."""
    y, x = np.mgrid[0.0 : 1.0 : height * 1j, 0.0 : 1.0 : width * 1j]
    return np.stack([255 * y, 255 * x, np.full_like(x, 40)], axis=-1).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """Returns the file that Pillow writes of an image."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write(root: Path, files: Mapping[str, bytes | np.ndarray]) -> Path:
    """Writes {relative path: content, or pixels to be saved as PNG}; returns the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(content) if isinstance(content, np.ndarray) else content)
    return root


def feed(source: Source, batch: int = 8, **settings: Any) -> Feed:
    """Returns batches of 8 × 8 images over all eight devices."""
    settings.setdefault("preprocess", Preprocess((8, 8)))
    return Feed(source, batch, Loading(sharding=batch_sharding(make_mesh()), **settings))
