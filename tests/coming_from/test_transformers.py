"""A folder of transformers opens: files made by hand, logits computed in NumPy from its arrays."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf

import vit_jax
from tests.models.running import QUICK
from vit_jax import trees
from vit_jax.checkpoints.arrays import read_arrays, write_safetensors
from vit_jax.main import main
from vit_jax.pretrained import open_pretrained

WIDTH, HEADS, MLP, PATCH, SIDE, CLASSES = 16, 2, 24, 8, 32, 3
NAMES = {"0": "tabby", "1": "beagle", "2": "eel"}
Arrays = Mapping[str, np.ndarray]

# What save_pretrained of transformers 5.23 writes for a ViTForImageClassification of these sizes.
CONFIG: dict[str, Any] = {
    "architectures": ["ViTForImageClassification"],
    "attention_probs_dropout_prob": 0.0,
    "dtype": "float32",
    "encoder_stride": 16,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": WIDTH,
    "id2label": NAMES,
    "image_size": SIDE,
    "initializer_range": 0.02,
    "intermediate_size": MLP,
    "label2id": {name: int(number) for number, name in NAMES.items()},
    "layer_norm_eps": 1e-12,
    "model_type": "vit",
    "num_attention_heads": HEADS,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": PATCH,
    "pooler_act": "tanh",
    "pooler_output_size": WIDTH,
    "qkv_bias": True,
    "transformers_version": "5.23.0",
}
PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.2, 0.25, 0.3],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": SIDE, "width": SIDE},
}
# What differs in the others: the names' prefix, tokens in front, heads.
KINDS = {
    "ViTForImageClassification": ("vit.", 1, ("classifier",)),
    "ViTModel": ("", 1, ("pooler.dense",)),
    "ViTModel without pooler": ("", 1, ()),
    "DeiTForImageClassification": ("deit.", 2, ("classifier",)),
    "DeiTForImageClassificationWithTeacher": (
        "deit.", 2, ("cls_classifier", "distillation_classifier"),
    ),
}  # fmt: skip


def arrays_of(kind: str) -> dict[str, np.ndarray]:
    """Returns random arrays with the names of transformers."""
    prefix, front, heads = KINDS[kind]
    tokens = (SIDE // PATCH) ** 2 + front
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.position_embeddings": (1, tokens, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    if front == 2:
        shapes["embeddings.distillation_token"] = (1, 1, WIDTH)
    linears = {f"attention.attention.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
    linears |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (MLP, WIDTH)}
    linears |= {"output.dense": (WIDTH, MLP)}
    for block in (f"encoder.layer.{i}" for i in range(2)):
        for name, shape in linears.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        for name in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{block}.{name}.weight": (WIDTH,), f"{block}.{name}.bias": (WIDTH,)}
    shapes = {f"{prefix}{name}": shape for name, shape in shapes.items()}
    for head in heads:
        rows = WIDTH if head == "pooler.dense" else CLASSES
        shapes |= {f"{head}.weight": (rows, WIDTH), f"{head}.bias": (rows,)}
    random = np.random.default_rng(0)
    return {name: random.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()}


def write_folder(folder: Path, kind: str, *, shards: int = 1) -> Path:
    """Writes what transformers would, in so many files."""
    folder.mkdir(parents=True)
    arrays, is_deit = arrays_of(kind), kind.startswith("DeiT")
    changes = {"architectures": [kind.split()[0]], "model_type": "deit" if is_deit else "vit"}
    config = CONFIG | changes
    if "Model" in kind:
        config = {k: v for k, v in config.items() if k not in ("id2label", "label2id")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", arrays)
        return folder
    places = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(arrays.items())[i::shards])
        write_safetensors(folder / file, part)
        places |= dict.fromkeys(part, file)
    total = {"total_size": sum(array.nbytes for array in arrays.values())}
    index = {"metadata": total, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def computed(arrays: Arrays, images: np.ndarray, kind: str) -> np.ndarray:
    """Returns what the model gives, by the definition of transformers and in double precision."""
    prefix, front, heads = KINDS[kind]
    a = {name: array.astype("f8") for name, array in arrays.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * a[f"{name}.weight"] + a[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)

    b, grid, embeddings = len(images), SIDE // PATCH, f"{prefix}embeddings"
    x = images.reshape(b, grid, PATCH, grid, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    projection = f"{embeddings}.patch_embeddings.projection"
    kernel = a[f"{projection}.weight"].reshape(WIDTH, -1).T
    x = x.reshape(b, grid * grid, -1) @ kernel + a[f"{projection}.bias"]
    tokens = [a[f"{embeddings}.{name}_token"] for name in ("cls", "distillation")[:front]]
    x = np.concatenate([*(np.repeat(token, b, 0) for token in tokens), x], 1)
    x = x + a[f"{embeddings}.position_embeddings"]
    for i in range(2):
        block = f"{prefix}encoder.layer.{i}"
        y = norm(f"{block}.layernorm_before", x)
        parts = ("query", "key", "value")
        q, k, v = (split(linear(f"{block}.attention.attention.{part}", y)) for part in parts)
        weights = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(WIDTH // HEADS))
        y = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(x.shape)
        x = x + linear(f"{block}.attention.output.dense", y)
        y = linear(f"{block}.intermediate.dense", norm(f"{block}.layernorm_after", x))
        x = x + linear(f"{block}.output.dense", y / 2 * (1 + erf(y / np.sqrt(2))))
    x = norm(f"{prefix}layernorm", x)
    if heads == ("pooler.dense",):
        return np.tanh(linear("pooler.dense", x[:, 0]))
    if len(heads) == 2:
        return np.mean([linear(head, x[:, i]) for i, head in enumerate(heads)], axis=0)
    return linear(heads[0], x[:, 0]) if heads else x[:, 0]


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, SIDE, SIDE, 3)).astype("f4")


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_and_computes_what_its_arrays_say(kind, shards, tmp_path):
    folder = write_folder(tmp_path / "model", kind, shards=shards)
    loaded = open_pretrained(folder)
    apply = jax.jit(loaded.model.apply, compiler_options=QUICK)
    logits, wanted = apply(loaded.variables, images()), computed(arrays_of(kind), images(), kind)
    np.testing.assert_allclose(logits, wanted, atol=1e-5 * np.abs(wanted).max())
    has_classes = "Model" not in kind
    assert loaded.class_names == (tuple(NAMES.values()) if has_classes else None)
    assert (loaded.preprocess.size, loaded.preprocess.interpolation) == ((SIDE, SIDE), "bilinear")
    assert loaded.preprocess.mean == (0.4, 0.5, 0.6)
    assert loaded.preprocess.std == (0.2, 0.25, 0.3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "Classification" in kind])
def test_a_pooler_beside_a_classifier_is_not_read(kind, tmp_path, caplog):
    """It is left over in files that were fine-tuned from a `ViTModel`; the head reads the token."""
    folder, prefix = write_folder(tmp_path / "model", kind), KINDS[kind][0]
    shapes = {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}
    pooler = {f"{prefix}pooler.dense.{leaf}": np.ones(shape) for leaf, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", arrays_of(kind) | pooler)
    with caplog.at_level("INFO"):
        loaded = open_pretrained(folder)
    assert "of no use to a classifier: " + ", ".join(sorted(pooler)) in caplog.text
    logits = jax.jit(loaded.model.apply, compiler_options=QUICK)(loaded.variables, images())
    wanted = computed(arrays_of(kind), images(), kind)
    np.testing.assert_allclose(logits, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_new_head_and_another_size(tmp_path):
    folder = write_folder(tmp_path / "model", "ViTForImageClassification")
    model, variables, preprocess = vit_jax.load_pretrained(folder, num_classes=7, image_size=48)
    params: Any = variables["params"]
    assert params["head"]["kernel"].shape == (WIDTH, 7)
    assert params["Transformer"]["posembed_input"]["pos_embedding"].shape == (1, 37, WIDTH)
    assert (model.num_classes, preprocess.size) == (7, (48, 48))


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model", "ViTForImageClassification")


def test_predict_names_its_labels(folder, tmp_path, capsys):
    pixels = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert main(["predict", f"--checkpoint={folder}", "--json", str(tmp_path / "a.png")]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    scaled = (pixels / 255 - PROCESSOR["image_mean"]) / PROCESSOR["image_std"]
    kind = "ViTForImageClassification"
    shares = np.exp(computed(arrays_of(kind), scaled[None], kind)[0])
    wanted = dict(zip(NAMES.values(), shares / shares.sum(), strict=True))
    assert dict(top) == pytest.approx(wanted, rel=1e-3)


def test_inspect_says_what_it_is(folder, capsys):
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["num_classes"]) == ("transformers", CLASSES)
    arrays = arrays_of("ViTForImageClassification")
    assert found["parameters"] == sum(array.size for array in arrays.values())


@pytest.mark.parametrize("to", ["official", "timm"])
def test_convert_there_and_back_keeps_every_bit(folder, to, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "there"), f"--to={to}"]) == 0
    back = tmp_path / "back"
    assert main(["convert", str(tmp_path / "there"), str(back), "--to=transformers"]) == 0
    assert trees.difference(read_arrays(back), read_arrays(folder)) == []
    config = json.loads((back / "config.json").read_text())
    same = ("architectures", "model_type", "hidden_act", "layer_norm_eps", "id2label", "label2id")
    assert {key: config[key] for key in same} == {key: CONFIG[key] for key in same}
    processor = json.loads((back / "preprocessor_config.json").read_text())
    assert processor["size"] == PROCESSOR["size"]
    assert processor["image_mean"] == PROCESSOR["image_mean"]
    capsys.readouterr()


SQUARE = {"height": 40, "width": 40}
# What a processor says besides, and what becomes of an image of random pixels, by its definition.
WAYS = {
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "to [0, 2]": {"rescale_factor": 2 / 255},
    "a crop of everything": {
        "size": {"height": SIDE, "width": SIDE}, "do_center_crop": True, "crop_size": SIDE,
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_images_are_prepared_as_the_processor_says(way, folder, caplog):
    says = {**PROCESSOR, **WAYS[way]}
    (folder / "preprocessor_config.json").write_text(json.dumps(says))
    _, _, preprocess = vit_jax.load_pretrained(folder)
    pixels = np.random.default_rng(2).integers(0, 256, (48, SIDE, 3), np.uint8)
    squashed = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    wanted = np.asarray(squashed).astype("f8")
    if says["do_rescale"]:
        wanted = wanted * says["rescale_factor"]
    if says["do_normalize"]:
        wanted = (wanted - says["image_mean"]) / says["image_std"]
    np.testing.assert_allclose(preprocess(pixels)[0], wanted, rtol=1e-5, atol=1e-5)
    assert "prepared otherwise" not in caplog.text


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"size": SQUARE, "do_center_crop": True, "crop_size": SIDE}, "squashed to 40×40 before"),
        ({"size": 40, "do_center_crop": True, "crop_size": SIDE}, "squashed to 40×40 before"),
        ({"resample": 1}, "resample=1 is bicubic here"),
        ({"resample": 0}, "resample=0 is bilinear here"),
        ({"do_resize": False}, "do_resize=False"),
    ],
)
def test_what_is_done_to_images_otherwise_is_said_in_a_line(says, message, folder, caplog):
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **says}))
    vit_jax.load_pretrained(folder)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [message in line for line in warned] == [True]


def test_a_shorter_side_and_a_crop_are_done_as_said(folder, caplog):
    says = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **says}))
    _, _, preprocess = vit_jax.load_pretrained(folder)
    assert (preprocess.size, preprocess.resize) == ((SIDE, SIDE), 40)
    assert "prepared otherwise" not in caplog.text


@pytest.mark.parametrize("factor", [0, -1, "1/255", None, float("nan")])
def test_a_factor_that_makes_no_sense_is_refused(factor, folder, capsys):
    processor = {**PROCESSOR, "rescale_factor": factor}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    assert main(["inspect", str(folder)]) == 3
    error = capsys.readouterr().err
    assert f"rescale_factor={factor!r} must be a positive number" in error
    assert error.count("\n") == 1


def test_another_model_of_transformers_is_refused_by_name(folder, capsys):
    config = folder / "config.json"
    config.write_text(json.dumps({**CONFIG, "model_type": "beit"}))
    assert main(["inspect", str(folder)]) == 3
    error = capsys.readouterr().err
    assert "model_type='beit' is none of vit, deit" in error
    assert error.count("\n") == 1
