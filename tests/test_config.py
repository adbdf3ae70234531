"""Settings: defaults, rules, merging, flags, and the way through JSON and back."""

import json
import math

import ml_collections
import numpy as np
import pytest

from tests import runs
from tests.golden import REPOSITORY
from vit_jax.config import (
    changed,
    default_config,
    differences,
    flatten,
    given,
    to_json,
    validate,
)
from vit_jax.data.sampling import training_rows
from vit_jax.errors import ConfigError, nearest
from vit_jax.experiment import make_model, make_preprocess, steps_of
from vit_jax.recipes import load_config, merge, shipped
from vit_jax.settings import HARMLESS, KEYS


def test_every_key_has_its_default_and_meaning():
    flat = flatten(default_config())
    assert flat.keys() == KEYS.keys()
    for path, key in KEYS.items():
        assert flat[path] == key.default, path
        assert key.meaning.endswith("."), path
        assert (key.default is None) == (key.kind is not None), path


def test_harmless_keys_exist():
    assert KEYS.keys() >= HARMLESS


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("batch", 0),
        ("seed", -1),
        ("seed", 2**32),  # the device would see 0
        ("seed", 2**63),
        ("batch", True),
        ("epochs", math.inf),
        ("base_lr", math.inf),
        ("augment.rotate", math.inf),
        ("pair_bias", math.nan),
        ("pp.mean", (123, 116, 103)),
        ("pp.mean", (0.5, math.nan, 0.5)),
        ("pp.std", (58, 57, 57)),
        ("pp.std", (0.2, 0.0, 0.2)),
        ("label_smoothing", 1.0),
        ("augment.crop_area", (0.5, 0.1)),
        ("augment.crop_area", (0.5,)),
        ("model.patches.size", (16,)),
        ("model.patches.size", (16.0, 16.0)),
        ("model.stem_fields.layers", (3,)),
        ("model.stem_fields.layers", ((32, 2), (64,))),
        ("model.resnet.num_layers", (3, 0)),
        ("total_steps", 2**31),  # the device would see a negative number
        ("batch", 10**12),
        ("pp.std", (0.5, 0.0, 0.5)),
        ("decay_type", "cosin"),
        ("dtype", "float16"),
    ],
)
def test_each_rule_names_key_value_and_rule(path, value):
    config = default_config()
    config.total_steps = 10
    config.update_from_flattened_dict({path: value})
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert f"config.{path}={value!r} must " in str(error.value)


def test_official_config_keys_are_taken_and_retired_ones_dropped():
    """Such a dict is what the official repository's own config files return."""
    official = ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "pp": {"train": "train[:98%]", "test": "test", "crop": 384},
            "total_steps": 10_000,
            "batch": 512,
            "batch_eval": 512,
            "accum_steps": 8,
            "base_lr": 0.03,
            "decay_type": "cosine",
            "warmup_steps": 500,
            "grad_norm_clip": 1,
            "optim_dtype": "bfloat16",
            "eval_every": 100,
            "checkpoint_every": 1000,
            "progress_every": 10,
            "prefetch": 2,
            "shuffle_buffer": 50_000,
            "trainer": "train",
        }
    )
    config = merge(default_config(), official, "official")
    validate(config)
    assert config.pp.crop == 384
    assert config.grad_norm_clip == 1.0


def test_json_goes_there_and_back(tmp_path):
    config = runs.tiny_config(augment={"crop_area": (0.3, 1.0)})
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    again = load_config(path)
    assert differences(config, again) == {}
    assert again.augment.crop_area == (0.3, 1.0)
    assert again.model.representation_size is None


def test_differences_name_both_values():
    old = json.loads(to_json(runs.tiny_config()))
    assert differences(old, runs.tiny_config(base_lr=0.5)) == {"base_lr": (1e-3, 0.5)}


def test_given_leaves_out_what_is_none():
    assert given({"a": None, "b": {"c": None}, "d": {"e": 0, "f": None}}) == {"d": {"e": 0}}


def test_flags_are_parsed_by_type_and_the_last_one_counts():
    config = load_config(
        "digits",
        ["--config.base_lr=1", "--config.model.patches.size=(2,4)", "--config.augment.flip",
         "--config.augment.crop_area=(0.5,1)", "--config.total_steps=7", "--config.seed=1",
         "--config.seed=2", "--config.pp.resize=None"],
    )  # fmt: skip
    assert config.base_lr == 1.0
    assert isinstance(config.base_lr, float)
    assert config.model.patches.size == (2, 4)
    assert config.augment.flip is True
    assert config.augment.crop_area == (0.5, 1)
    assert (config.total_steps, config.epochs) == (7, None)
    assert config.seed == 2
    assert config.pp.resize is None


def test_config_is_locked_against_new_names():
    config = load_config("digits")
    with pytest.raises(AttributeError):
        config.base_rl = 1


@pytest.mark.parametrize("name", ["digits", "configs/digits.py"])
def test_shipped_recipes_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name).dataset == "digits"


def test_every_shipped_recipe_loads_and_says_how_to_run_it():
    arguments = {
        "folder": ":photos,32",
        "finetune": ":vit_ti16,photos",
        "compact_cifar": ":mcvit,cifar10",
        "tiny_imagenet": ":vit12",
        "cifar100": ":scratch",
        "gated_convstem": ":gated,base,photos",
        "cats_dogs": ":photos",
        "vit": ":b16,cifar10",
        "augreg": ":R_Ti_16",
        "imagenet1k": ":baseline",
        "inference_time": ":b32",
        "lit": ":vit_ti16,photos",
    }
    table = (REPOSITORY / "configs" / "README.md").read_text("utf-8")
    for name, file in shipped().items():
        load_config(f"{name}{arguments.get(name, '')}")
        text = file.read_text()
        assert f"--config=configs/{name}.py" in text, "a recipe opens with its command"
        evidence = "configs/README.md", "benchmarks/", "Not run by us"
        assert any(place in text for place in evidence), "a recipe says where its evidence lies"
        row = f"| `{name}:" in table
        assert ("configs/README.md" in text) == row, "the table is named by those that are in it"


def test_recipe_arguments():
    config = load_config("folder:some/photos,32")
    assert (config.dataset, config.pp.crop) == ("some/photos", 32)
    for wrong in ("folder", "folder:x,33", "folder:x,big"):
        with pytest.raises(ConfigError):
            load_config(wrong)


def test_nearest():
    assert nearest("ADAMV", ["sgd", "adamw"]) == "; did you mean 'adamw'?"
    assert nearest("zzz", ["sgd", "adamw"]) == ""


def test_retired_official_keys_are_taken_as_flags_too():
    config = load_config("digits", ["--config.shuffle_buffer=50000", "--config.model_type=ViT"])
    assert config == load_config("digits")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optimizer": "lion", "beta2": 0.999}, r"config.beta2=0.999 and .*optim_dtype='float32'"),
        ({"optimizer": "adamw", "beta1": 0.999}, "config.beta1=0.999 and"),
        ({"optimizer": "sgd", "beta1": 0.9965}, "config.beta1=0.9965 and"),
        ({"optimizer": "lion"}, None),
        ({"optimizer": "lion", "beta2": 0.999, "optim_dtype": "float32"}, None),
        ({"optimizer": "adamw", "beta2": 0.9999}, None),  # the second moment is float32
        ({"optimizer": "sgd", "beta1": 0.996}, None),
    ],
)
def test_a_moment_in_bfloat16_must_be_able_to_move(settings, says):
    if says is None:
        runs.tiny_config(**settings)
    else:
        with pytest.raises(ConfigError, match=says):
            runs.tiny_config(**settings)


@pytest.mark.parametrize(
    ("augment", "accum_steps", "says"),
    [
        ({"mixup": 0.2}, 64, "parts of one image, and config.augment.mixup=0.2 mixes"),
        ({"mixup": 0.0, "cutmix": 1.0}, 64, "config.augment.cutmix=1.0 mixes"),
        ({"mixup": 0.0, "preset": "light1"}, 64, "config.augment.preset='light1' mixes"),
        ({"mixup": 0.0, "preset": "light0"}, 64, None),
        ({"mixup": 0.2}, 32, None),
    ],
)
def test_an_image_alone_cannot_be_mixed(augment, accum_steps, says):
    if says is None:
        runs.tiny_config(augment=augment, accum_steps=accum_steps)
    else:
        with pytest.raises(ConfigError, match=says):
            runs.tiny_config(augment=augment, accum_steps=accum_steps)


@pytest.mark.parametrize(
    ("batch", "repeats", "accum_steps", "refused"),
    [(64, 16, 4, True), (64, 2, 32, True), (64, 64, 2, True), (64, 16, 8, True),
     (64, 16, 2, False), (64, 2, 16, False), (60, 3, 4, False)],
)  # fmt: skip
def test_an_image_is_not_mixed_with_its_copies_alone(batch, repeats, accum_steps, refused):
    settings = {"batch": batch, "accum_steps": accum_steps}
    augment = {"mixup": 0.2, "repeats": repeats}
    runs.tiny_config(augment={**augment, "mixup": 0.0}, **settings)
    _, indices = training_rows(0, 0, batch, 1000, repeats)
    parts = indices.reshape(batch // accum_steps, accum_steps).T
    assert (parts == np.roll(parts, 1, axis=1)).all() == refused
    if not refused:
        runs.tiny_config(augment=augment, **settings)
        return
    with pytest.raises(ConfigError, match=f"accum_steps={accum_steps} and .*repeats={repeats}"):
        runs.tiny_config(augment=augment, **settings)


def test_more_epochs_than_devices_count_are_refused():
    config = runs.tiny_config(epochs=1e30, total_steps=None)
    with pytest.raises(ConfigError, match=r"config.epochs=1e\+30: .* steps must be positive and"):
        steps_of(config, 1000)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numbers_of_numpy_are_numbers(kind):
    mean = np.array([0.5, 0.25, 0.125], kind)
    for form in (mean, list(mean), tuple(mean)):
        config = changed(runs.tiny_config(), {"pp.mean": form})
        assert config.pp.mean == (0.5, 0.25, 0.125)
        assert make_preprocess(config).mean == (0.5, 0.25, 0.125)
        assert json.loads(to_json(config))["pp"]["mean"] == [0.5, 0.25, 0.125]


def test_a_name_given_as_a_flag_is_that_model():
    """Not the sizes of a recipe's nameless model under its name."""
    flags = ["--config.model.model_name=ViT-S_16", "--config.model.num_registers=4"]
    digits = load_config("digits")
    assert digits.model.hidden_size
    found = load_config("digits", flags)
    assert given(found.model) == {
        "model_name": "ViT-S_16", "num_registers": 4,
        "transformer": {k: v for k, v in given(digits.model.transformer).items() if "rate" in k},
    }  # fmt: skip
    assert make_model(found, 10).hidden_size == 384
    unnamed = load_config("digits", ["--config.model.model_name=None"])
    assert differences(digits, unnamed) == {}
    # A recipe's changes of a named model stay, as its other settings do.
    scratch = load_config("cifar100:scratch", ["--config.model.model_name=ViT-S_16"])
    assert scratch.model.patches.size == (6, 6)
    assert scratch.model.transformer.drop_path_rate == 0.2


def test_what_a_recipe_takes_after_the_colon(tmp_path):
    assert load_config("digits").seed == 0
    with pytest.raises(ConfigError, match=r"digits\.py: get_config takes nothing after a colon"):
        load_config("digits:foo")
    (tmp_path / "mine.py").write_text("def get_config(arg):\n    return {'seed': int(arg)}\n")
    with pytest.raises(ConfigError, match="takes a word, as in RECIPE:WORD"):
        load_config(tmp_path / "mine.py")
    assert load_config(f"{tmp_path}/mine.py:7", ["--config.total_steps=1"]).seed == 7
