"""The folder in which snippets run: small stand-ins for what a reader has."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.data import pictures
from tests.golden import REPOSITORY
from tests.image_text import lit_files
from vit_jax import trees
from vit_jax.checkpoints import catalogue, locations, released_lit
from vit_jax.checkpoints.config_files import CONFIGS
from vit_jax.data.preprocess import Preprocess
from vit_jax.models.zoo import create_model
from vit_jax.origin import shapes_of
from vit_jax.release import save_pretrained

# Weights as a page calls them, when it means a file or folder of the reader.
FILES = {"B_16.npz": 12, "deit_tiny_patch16_224.npz": 2}  # and their layers
FOLDERS = {"timm_folder": "timm", "transformers_folder": "transformers"}
IMAGES = ("holiday.jpg", "cat.jpg", "photo.jpg")
CLASSES = ("cats", "dogs")


def prepare(root: Path) -> None:
    """Writes images, captions, names, datasets and weights, and a cache that has all weights."""
    _write_images(root)
    for split, count in (("train", 16), ("test", 4)):
        for i in range(count):
            image = pictures.encoded(pictures.noise(8, 9, seed=i))
            text = f"image {i}".encode()
            files = {f"{split}/{i}.png": image, f"{split}/{i}.txt": text}
            pictures.write(root / "CAPTIONED", files)
    (root / "names.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (root / "templates.txt").write_text("a photo of {}\n{} at home\n")
    _write_weights(root)
    _fill_cache(root, root / "cache")


def copy(stocked: Path, folder: Path) -> Path:
    """Copies what was prepared for a page of its own, and puts the recipes beside it."""
    shutil.copytree(stocked, folder, symlinks=True)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    return folder


def write_cifar10(root: Path) -> None:
    """Writes a few images of the name of CIFAR-10 where TFDS looks for it."""
    from tests.data import tfds_sets  # TFDS takes seconds to import

    folder = root / "tensorflow_datasets"
    tfds_sets.write_set(folder, "cifar10", {"train": 50, "test": 8})


def _write_images(root: Path) -> None:
    for c, name in enumerate(CLASSES):
        for split, count in (("train", 8), ("test", 4)):
            for i in range(count):
                pixels = pictures.smooth(40 + i, 50)
                pixels[..., c] = 200 - pixels[..., c] // 2
                path = root / "PHOTOS" / split / name / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pictures.encoded(pixels, "JPEG"))
    for name in IMAGES:
        shutil.copy(root / "PHOTOS/test/cats/0.jpg", root / name)
    shutil.copytree(root / "PHOTOS/test/cats", root / "photos")


def _write_weights(root: Path) -> None:
    for name, layers in FILES.items():
        model, variables, preprocess = weights(layers)
        folder = root / "made"
        file = save_pretrained(folder, model, variables, preprocess, format="official")
        shutil.move(file, root / name)
        shutil.rmtree(folder)
    for name, format in FOLDERS.items():
        model, variables, preprocess = weights(2, "gelu_erf")
        save_pretrained(root / name, model, variables, preprocess, format=format)


def weights(layers: int, activation: str = "gelu_tanh") -> tuple[Any, Any, Preprocess]:
    """A narrow ViT of patches of 16 px."""
    model = create_model(
        None,
        1000,
        patches={"size": (16, 16)},
        hidden_size=64,
        transformer={
            "num_layers": layers, "num_heads": 1, "mlp_dim": 8, "activation": activation,
            "dropout_rate": 0.0, "attention_dropout_rate": 0.0,
        },
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shapes = shapes_of(model, (224, 224))
    params = {path: rng.normal(0, 0.1, shape).astype("f4") for path, shape in shapes.items()}
    return model, {"params": trees.unflatten(params)}, Preprocess((224, 224))


def _fill_cache(root: Path, cache: Path) -> None:
    """Puts a stand-in where the download of each published file would lie."""
    cache.mkdir()
    lit = lit_files.write(root / "lit")
    by_ending = {
        ".npz": root / "deit_tiny_patch16_224.npz",
        ".safetensors": root / "timm_folder" / "model.safetensors",
    }
    urls = [source.url for entry in catalogue.list_published() for source in entry.sources]
    urls += ["hf://OWNER/NAME/model.safetensors"]
    for url in urls:
        (cache / locations.cached_name(url)).symlink_to(by_ending[Path(url).suffix])
        for config in CONFIGS:  # the stand-ins have none
            (cache / locations.cached_name(f"{url.rpartition('/')[0]}/{config}")).write_text("{}")
    for one in (one for one in released_lit.RELEASED if one.tokenizer == "bert"):
        (cache / locations.cached_name(one.weights)).symlink_to(lit)
        (cache / locations.cached_name(one.vocabulary)).symlink_to(lit.with_suffix(".txt"))
