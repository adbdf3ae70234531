"""The shipped recipes: what each promises, the words it takes, and what it says to wrong ones."""

import json

import jax
import jax.numpy as jnp
import pytest

from tests.data import pictures
from vit_jax.checkpoints.catalogue import published
from vit_jax.config import flatten
from vit_jax.errors import ConfigError
from vit_jax.experiment import build, make_model
from vit_jax.finetune import weights_of
from vit_jax.recipe_words import VARIANT, Word, read_words
from vit_jax.recipes import load_config

# The budget of two variants of one recipe: what may not differ.
BUDGET = ("epochs", "total_steps", "batch", "pp.crop", "dataset", "model.hidden_size")


def parameters(spec: str, num_classes: int = 10) -> int:
    config = load_config(spec)
    model = make_model(config, num_classes)
    images = jnp.zeros((1, config.pp.crop, config.pp.crop, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_words_are_read_in_order_and_filled_in():
    words = Word("MODEL", ("a", "b")), Word("DATA"), VARIANT
    assert read_words("x", "a,photos", *words) == ["a", "photos", "sound"]
    assert read_words("x", "b,photos,original", *words) == ["b", "photos", "original"]
    assert read_words("x", "", Word("DATA", default="")) == [""]


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("", "MODEL is missing (alpha, beta); the recipe reads configs/x.py:MODEL,DATA[,VARIANT]"),
        ("alhpa,photos", "MODEL 'alhpa' is none of alpha, beta; did you mean 'alpha'?"),
        ("alpha", "DATA is missing"),
        ("alpha,photos,orignal", "VARIANT 'orignal' is none of sound, original; did you mean"),
        ("alpha,photos,sound,4", "'4' is a word too many"),
    ],
)
def test_wrong_words_are_named_with_the_right_ones(arg, said):
    with pytest.raises(ConfigError) as caught:
        read_words("x", arg, Word("MODEL", ("alpha", "beta")), Word("DATA"), VARIANT)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("gated_convstem:gated,base,x", 78_013_562),  # the project says 78 M
        ("gated_convstem:plain,base,x", 85_668_106),  # and 85 M
        ("compact_cifar:cvt,x", 119_194),
        ("compact_cifar:mcvit,x", 119_147),
    ],
)
def test_sizes_of_models_are_those_reported(spec, count):
    assert parameters(spec) == count


@pytest.mark.parametrize(
    "spec",
    [
        "gated_convstem:gated,small,x",
        "gated_convstem:plain,base,x",
        "tiny_imagenet:initial,x",
        "tiny_imagenet:vit10,x",
        "tiny_imagenet:vit12,x",
        "compact_cifar:cvt,x",
        "compact_cifar:cct,x",
        "cifar100:scratch,x",
        "cifar100:finetune384,x",
        "cats_dogs:x",
    ],
)
def test_two_variants_have_the_same_model_and_budget(spec):
    sound, original = (flatten(load_config(f"{spec}{word}")) for word in ("", ",original"))
    assert {key: sound[key] for key in BUDGET} == {key: original[key] for key in BUDGET}
    sizes = [key for key in sound if key.startswith("model.") and "rate" not in key]
    assert {key: sound[key] for key in sizes} == {key: original[key] for key in sizes}
    assert sound["warmup_steps"] > 0
    assert sound["decay_type"] == "cosine"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "tiny_imagenet:vit12,x,original",
            {"epochs": 150.0, "weight_decay": 0.0, "model.transformer.dropout_rate": 0.05,
             "model.transformer.mlp_dim": 1536, "model.patches.size": (8, 8)},
        ),
        (
            "tiny_imagenet:initial,x,original",
            {"weight_decay": 0.03, "model.transformer.dropout_rate": 0.1,
             "model.transformer.mlp_dim": 2048, "decay_type": "constant"},
        ),
        (
            "compact_cifar:mcvit,x,original",
            {"epochs": 100.0, "batch": 256, "base_lr": 0.01, "decay_type": "constant",
             "warmup_steps": 0, "weight_decay": 0.01, "augment.crop_area": (0.8, 1.0)},
        ),
        (
            "compact_cifar:mcvit,x",
            {"augment.mixup": 0.2, "augment.cutmix_share": 0.2, "augment.crop_area": None},
        ),
        ("compact_cifar:cct,x", {"augment.cutmix_share": 0.5, "augment.randaugment": (1, 10)}),
        (
            "cifar100:scratch,x,original",
            {"batch": 256, "accum_steps": 16, "pp.crop": 72, "model.patches.size": (6, 6),
             "augment.rotate": 0.02, "augment.crop_area": (0.8, 1.0), "base_lr": 1e-3},
        ),
        ("cifar100:finetune384,x", {"batch": 512, "accum_steps": 64, "pp.crop": 384}),
        ("cats_dogs:x,original", {"epochs": 10.0, "pp.from_data": True, "augment.flip": False}),
        ("cats_dogs:x", {"base_lr": 3e-4, "augment.randaugment": (1, 5), "batch": 64}),
        (
            "vit:b16,cifar10",
            {"base_lr": 0.01, "total_steps": 10_000, "pp.train": "train[:98%]", "pp.crop": 384,
             "accum_steps": 8, "batch": 512, "warmup_steps": 500},
        ),
        ("vit:l16,imagenet2012", {"base_lr": 0.03, "total_steps": 20_000}),
        ("vit:b16,oxford_flowers102", {"base_lr": 0.03, "total_steps": 500, "warmup_steps": 100}),
        (
            "augreg:R_Ti_16,oxford_iiit_pet",
            {"pp.resize": None, "pp.crop": 384, "warmup_steps": 100, "total_steps": 500,
             "augment.crop_rule": "tensorflow"},
        ),
        ("mixer_base16_cifar10", {"pp.crop": 224, "total_steps": 10_000}),
        (
            "imagenet1k:baseline",
            {"epochs": 90.0, "batch": 1024, "augment.mixup": 0.2, "grad_norm_clip": 1.0,
             "model.representation_size": 384, "optim_dtype": "bfloat16"},
        ),
        (
            "imagenet1k:deit3_s,x",
            {"loss": "sigmoid", "augment.repeats": 3, "dataset": "x", "optimizer": "lamb",
             "model.transformer.drop_path_by_layer": (0.05,) * 12,
             "pp.interpolation": "bicubic"},
        ),
        ("inference_time:b32,8,384", {"batch_eval": 8, "pp.crop": 384}),
    ],
)  # fmt: skip
def test_recipes_say_what_their_source_says(spec, expected):
    settings = flatten(load_config(spec))
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize(
    "spec",
    [
        "vit:b16,cifar10",
        "vit:r50_b16,cifar100",
        "augreg:R26_S_32",
        "augreg:B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0",
        "mixer_base16_cifar10",
        "cifar100:finetune384,x",
    ],
)
def test_official_recipes_name_weights_that_the_catalogue_has(spec):
    weights = weights_of(load_config(spec))
    assert weights is not None
    assert published(weights).sources


def test_a_folder_of_weights_means_what_it_meant_officially():
    config = load_config("vit:b16,cifar10", ["--config.pretrained_dir=weights"])
    assert weights_of(config) == "weights/ViT-B_16.npz"


@pytest.mark.parametrize("name", ["baseline", "deit3_s", "deit3_b"])
def test_imagenet_models_can_be_built(name):
    config = load_config(f"imagenet1k:{name}")
    assert make_model(config, 1000).hidden_size == (768 if name == "deit3_b" else 384)


def test_cats_and_dogs_read_a_json_file(tmp_path):
    said = {"folder": "PetImages", "epochs": 3, "learning_rate": 0.01, "batch_size": 8,
            "warmup_steps": 5, "mean": [0.4, 0.5, 0.6]}  # fmt: skip
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(said))
    config = load_config(f"cats_dogs:{file},original")
    assert (config.dataset, config.epochs, config.base_lr) == ("PetImages", 3.0, 0.01)
    assert (config.batch, config.pp.mean, config.pp.std) == (8, (0.4, 0.5, 0.6), None)
    assert (config.warmup_steps, load_config(f"cats_dogs:{file}").warmup_steps) == (5, 5)


@pytest.mark.parametrize("variant", ["original", "sound"])
def test_cats_and_dogs_leave_out_photographs_that_cannot_be_read(variant, tmp_path):
    """As PetImages comes: one of them is empty, and one is cut off."""
    folder = pictures.write(
        tmp_path / "PetImages",
        {f"{c}/{i}.png": pictures.noise(20, 20, i) for c in ("Cat", "Dog") for i in range(20)},
    )
    (folder / "Cat" / "3.png").write_bytes(b"")
    (folder / "Dog" / "5.png").write_bytes((folder / "Dog" / "5.png").read_bytes()[:50])
    flags = ["--config.pp.crop=16", "--config.batch=8"]
    with pytest.raises(ConfigError, match=r"below the \d+ steps of .*config.warmup_steps=\d is"):
        build(load_config(f"cats_dogs:{folder},sound", flags))
    experiment = build(
        load_config(f"cats_dogs:{folder},{variant}", [*flags, "--config.warmup_steps=1"])
    )
    assert len(list(experiment.train.training(0, 8))) == 8  # more than an epoch
    scored = sum(float(batch["mask"].sum()) for batch in experiment.test.evaluation())
    assert scored == len(experiment.test.source) - experiment.test.skipped
    assert experiment.train.skipped + experiment.test.skipped == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"folder": "x", "epoch": 3}', "'epoch' is none of .*; did you mean 'epochs'"),
        ('{"epochs": 3}', 'JSON object with "folder"'),
        ("[1]", 'JSON object with "folder"'),
        ("{", "not readable as JSON"),
        ('{"folder": "x", "mean": [1, 2]}', "config.pp.mean"),
        ('{"folder": "x", "batch_size": "many"}', "batch.*must be of type"),
    ],
)
def test_a_wrong_json_file_is_one_line(text, said, tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(f"cats_dogs:{file}")
