"""Weights exported to timm and transformers and run there by PyTorch; and theirs, run here.

    python benchmarks/export_check.py --library=timm [--weights=FILE.npz --image=PHOTO.png]

Needs PyTorch and the library (timm or transformers), which are no dependencies of the project. With
`--weights`, such as DeiT's, that file is exported as it is and with a random head of two classes,
and both are compared on the photograph. All other models are small and have random weights, so that
nothing hides in a sum. For each it prints the largest difference between the logits of both sides,
and the largest logit; it fails where a difference is above 1e-4.
"""

import argparse
import importlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

import vit_jax
from vit_jax import trees
from vit_jax.data.preprocess import Preprocess
from vit_jax.models.zoo import create_model

CLASSES, PIXELS = 7, 32
TOLERANCE = 1e-4

Pair = tuple[np.ndarray, np.ndarray]  # logits (b, k) here and there

# Changes to a small model of ours, by name; each is exported.
OURS: dict[str, dict[str, Any]] = {
    "class token": {},
    "tanh GELU": {"transformer": {"activation": "gelu_tanh"}},
    "distilled": {"pool": "distilled"},
    "no bias of query, key, value": {"transformer": {"attention": {"qkv_bias": False}}},
    "mean of tokens": {"classifier": "gap"},
    "mean of tokens, norm after it": {"classifier": "gap", "pool_norm": True},
    "registers": {"num_registers": 4, "positions": {"class_row": False}},
    "registers, mean of tokens": {"num_registers": 4, "classifier": "gap"},
    "layer scale": {"transformer": {"layer_scale": 0.1}},
    "query-key norm": {"transformer": {"attention": {"qk_norm": True}}},
    "attention pooling": {"pool": "attention"},
    "hybrid": {"patches": {"size": (1, 1)}, "resnet": {"num_layers": (3, 4, 9), "width_factor": 1}},
    "hybrid, stem alone": {
        "patches": {"size": (8, 8)},
        "resnet": {"num_layers": (), "width_factor": 1},
    },
}
OF_TRANSFORMERS = ("class token", "tanh GELU", "distilled", "no bias of query, key, value")

# Arguments of timm's own constructor, for its models to be loaded here.
SMALL = {"img_size": PIXELS, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "class token": ("vit_tiny_patch16_224", {}),
    "DeiT, distilled": ("deit_tiny_distilled_patch16_224", {}),
    "reg4, mean of tokens": ("vit_medium_patch16_reg4_gap_256", {}),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {"init_values": 0.1}),
    "registers with positions": ("vit_tiny_patch16_224", {"reg_tokens": 2}),
    "DeiT III": ("deit3_small_patch16_224", {}),
    "SigLIP 2, tanh GELU": ("vit_base_patch32_siglip_256", {}),
    "query-key norm": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "hybrid": ("vit_base_r50_s16_224", {"patch_size": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("timm", "transformers"), required=True)
    parser.add_argument("--weights", help="a file of weights that load_pretrained takes")
    parser.add_argument("--image", help="an image file to compare their logits on")
    options = parser.parse_args()
    versions = {name: importlib.metadata.version(name) for name in ("torch", options.library)}
    print(machine.line(machine.describe()), *(f"{n} {v}" for n, v in versions.items()), sep=", ")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, theirs) in _cases(options, Path(folder)):
            worst = max(worst, difference := float(np.abs(ours - theirs).max()))
            figures = {"difference": f"{difference:.1e}", "largest": f"{np.abs(ours).max():.2f}"}
            print(json.dumps({"case": name, **figures}), flush=True)
    if worst > TOLERANCE:
        raise SystemExit(f"a difference of {worst:.1e} is above {TOLERANCE:.0e}")


def _cases(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Pair]]:
    library = options.library
    if options.weights:
        yield from _of_file(options, folder)
    for name, changes in OURS.items():
        if library == "timm" or name in OF_TRANSFORMERS:
            size = 256 if "hybrid" in name else PIXELS
            model = (*_random_model(changes, size), Preprocess((size, size)))
            yield f"exported: {name}", _exported(library, folder / name, *model)
    yield from ((f"loaded: {name}", pair) for name, pair in _loaded(library, folder))


def _of_file(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Pair]]:
    """The file's model as it is, and with a new head whose values are random and not zeros."""
    name = Path(options.weights).stem
    for head, classes in (("its own head", None), ("a head of two classes", 2)):
        model, variables, preprocess = vit_jax.load_pretrained(options.weights, classes)
        images = np.asarray(preprocess(options.image)) if options.image else None
        if classes:
            kernel = variables["params"]["head"]["kernel"]
            values = 0.05 * np.random.default_rng(0).normal(size=kernel.shape)
            variables["params"]["head"]["kernel"] = jnp.asarray(values, jnp.float32)
        place = folder / f"file {classes}"
        pair = _exported(options.library, place, model, variables, preprocess, images)
        yield f"exported: {name}, {head}", pair


def _library(name: str) -> Any:
    """Imports what only this script needs, and not all who read it have."""
    return importlib.import_module(name)


def _random_model(changes: dict[str, Any], size: int) -> tuple[Any, dict[str, Any]]:
    encoder = {"num_layers": 2, "num_heads": 4, "mlp_dim": 256, "activation": "gelu_erf"}
    fields = {
        "patches": {"size": (8, 8)},
        "hidden_size": 64,
        **changes,
        "transformer": {**encoder, **changes.get("transformer", {})},
    }
    model = create_model(None, CLASSES, **fields)
    images = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), images)["params"]
    rng = np.random.default_rng(0)

    def draw(path: str, leaf: Any) -> np.ndarray:
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path.endswith("scale"):
            return 1 + 0.1 * noise
        spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if "kernel" in path else 0.1
        return (spread * noise).astype(np.float32)

    return model, {"params": trees.map_with_path(draw, shapes)}


def _exported(
    library: str,
    folder: Path,
    model: Any,
    variables: Any,
    preprocess: Preprocess,
    images: np.ndarray | None = None,
) -> Pair:
    """Logits of a model here, and of its export there; images are random where none are given."""
    torch = _library("torch")
    vit_jax.save_pretrained(folder, model, variables, preprocess, format=library)
    if images is None:
        shape = (2, *preprocess.size, 3)
        images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    ours = np.asarray(jax.jit(model.apply)(variables, images))
    with torch.no_grad():
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return ours, _open(library, folder)(nchw).numpy()


def _open(library: str, folder: Path) -> Any:
    if library == "timm":
        timm = _library("timm")
        return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transformers = _library("transformers")
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    family = transformers.AutoModelForImageClassification
    if kind == "deit":
        family = transformers.DeiTForImageClassificationWithTeacher
    model, info = family.from_pretrained(folder, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if "keys" in key and value}
    if wrong:
        raise SystemExit(f"{folder.name}: transformers reports {wrong}")
    return lambda images: model.eval()(images).logits


def _loaded(library: str, folder: Path) -> Iterator[tuple[str, Pair]]:
    """Logits of the library's own models, loaded here and there."""
    torch = _library("torch")
    torch.manual_seed(0)  # of the first model; each of the others follows the one before
    made = _made_by_timm(folder) if library == "timm" else _made_by_transformers(folder)
    for name, path, size, model in made:
        images = np.random.default_rng(2).normal(size=(2, size, size, 3)).astype(np.float32)
        ours, variables, _ = vit_jax.load_pretrained(path)
        with torch.no_grad():
            theirs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        yield name, (np.asarray(jax.jit(ours.apply)(variables, images)), theirs)


def _made_by_timm(folder: Path) -> Iterator[tuple[str, Path, int, Any]]:
    timm = _library("timm")
    hub = _library("timm.models._hub")
    for number, (name, (architecture, changes)) in enumerate(THEIRS.items()):
        size = 64 if name == "hybrid" else PIXELS
        arguments = {**SMALL, "img_size": size, "num_classes": CLASSES, **changes}
        model = _shaken(timm.create_model(architecture, **arguments))
        path = folder / f"timm {number}"
        hub.save_for_hf(model, str(path), safe_serialization=True)
        yield name, path, size, model


def _made_by_transformers(folder: Path) -> Iterator[tuple[str, Path, int, Any]]:
    transformers = _library("transformers")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
    sizes |= {"intermediate_size": 96, "image_size": PIXELS, "num_labels": CLASSES}
    for name, config in (
        ("ViTForImageClassification", "ViTConfig"),
        ("DeiTForImageClassification", "DeiTConfig"),
        ("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    ):
        model = _shaken(getattr(transformers, name)(getattr(transformers, config)(**sizes)))
        model.save_pretrained(folder / name)
        yield name, folder / name, PIXELS, lambda images, model=model: model(images).logits


def _shaken(model: Any) -> Any:
    """The model with every parameter moved, so that none is a zero or a one."""
    torch = _library("torch")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


if __name__ == "__main__":
    main()
