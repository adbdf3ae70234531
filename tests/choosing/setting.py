"""A folder of photographs and small pretrained weights, for tests of what is chosen for them."""

from pathlib import Path

import numpy as np

import vit_jax
from tests.data import pictures
from vit_jax import trees
from vit_jax.choosing.data import Facts
from vit_jax.choosing.rules import Devices, Weights
from vit_jax.data.preprocess import Preprocess
from vit_jax.origin import shapes_of
from vit_jax.release import save_pretrained

SIZE = 32
CPU, GPU = Devices("cpu", 1), Devices("gpu", 1)
VIT = Weights("vit_ti16", 224, 16, any_size=True)


def facts(train: int = 1000, test: int = 200, side: int = 500, classes: int = 2) -> Facts:
    """Returns those of a folder whose classes have one size."""
    each = train // classes
    return Facts("/photos", "train", "test", False, classes, train, test, each, each, side)


def photographs(root: Path, train: int = 20, test: int = 4) -> Path:
    """Writes two classes of noise, one dark and one bright, so many images of each."""
    files = {}
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            dark = pictures.noise(40, 40 + number, number) // 2
            files[f"{split}/dark/{number}.png"] = dark
            files[f"{split}/bright/{number}.png"] = 255 - dark
    return pictures.write(root, files)


def small_weights(folder: Path) -> Path:
    """Writes a timm folder: a ViT of two narrow blocks for 32 px, of five classes."""
    encoder = {"num_layers": 2, "num_heads": 3, "mlp_dim": 48, "dropout_rate": 0.0}
    model = vit_jax.create_model(
        None,
        5,
        patches={"size": (8, 8)},
        hidden_size=24,
        transformer={**encoder, "attention_dropout_rate": 0.0, "activation": "gelu_erf"},
    )
    generator = np.random.default_rng(0)
    shapes = shapes_of(model, (SIZE, SIZE))
    params = {path: generator.normal(0, 0.1, s).astype("f4") for path, s in shapes.items()}
    preprocess = Preprocess((SIZE, SIZE), antialias=True)
    save_pretrained(folder, model, {"params": trees.unflatten(params)}, preprocess)
    return folder
