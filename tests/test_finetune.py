"""Runs that start from pretrained weights: what those decide, and that they may then go."""

import shutil

import jax
import numpy as np
import pytest

import vit_jax
from tests import runs
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.config import Config, default_config, validate
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.experiment import make_preprocess
from vit_jax.finetune import settled, weights_of
from vit_jax.origin import shapes_of
from vit_jax.pretrained import load_run
from vit_jax.recipes import load_config, merge
from vit_jax.records.loggers import Console
from vit_jax.release import save_pretrained
from vit_jax.train import train

NO_MODEL = {"model": {}, "pp": {"crop": 8}, "dataset": "digits", "augment": {"rotate": 10.0}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A timm folder: a small ViT for 16 px, erf GELU, five classes, colours of its own."""
    model = vit_jax.create_model(
        None,
        5,
        patches={"size": (4, 4)},
        hidden_size=24,
        transformer={
            "num_layers": 2, "num_heads": 3, "mlp_dim": 32, "activation": "gelu_erf",
            "dropout_rate": 0.0, "attention_dropout_rate": 0.0,
        },
    )  # fmt: skip
    preprocess = Preprocess(
        (16, 16),
        antialias=True,
        interpolation="bicubic",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.2),
    )
    shapes = shapes_of(model, (16, 16))
    generator = np.random.default_rng(0)
    params = {path: generator.normal(0, 0.1, s).astype("f4") for path, s in shapes.items()}
    folder = tmp_path_factory.mktemp("weights") / "small"
    save_pretrained(folder, model, {"params": trees.unflatten(params)}, preprocess)
    return folder, params


def config_of(**changes) -> Config:
    small = {**runs.TINY, **NO_MODEL, "total_steps": 6, "checkpoint_every": 2, "eval_every": 6}
    config = merge(merge(default_config(), small, "tests"), changes, "tests")
    validate(config)
    return config.lock()


def test_weights_decide_architecture_activation_and_colours(weights):
    config = settled(config_of(model_or_filename=str(weights[0])))
    model = config.model
    assert (model.hidden_size, model.transformer.num_layers) == (24, 2)
    assert (model.transformer.num_heads, model.transformer.activation) == (3, "gelu_erf")
    assert (config.pp.mean, config.pp.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    assert config.pp.antialias is True
    assert make_preprocess(config).interpolation == "bicubic"
    assert config.pp.crop == 8  # the run's own
    assert model.representation_size is None


def test_settings_win_over_the_weights(weights):
    changes = {
        "pp": {"crop": 8, "mean": (0.5, 0.5, 0.5)},
        "model": {"transformer": {"dropout_rate": 0.3}},
    }
    config = settled(config_of(model_or_filename=str(weights[0]), **changes))
    assert config.pp.mean == (0.5, 0.5, 0.5)
    assert config.pp.std == (0.2, 0.3, 0.2)
    assert config.model.transformer.dropout_rate == 0.3
    assert config.model.transformer.mlp_dim == 32
    plain = {"pp": {"crop": 8, "antialias": False}}  # with which there is no bicubic
    config = settled(config_of(model_or_filename=str(weights[0]), **plain))
    assert make_preprocess(config).interpolation == "bilinear"


def test_a_run_starts_from_them_with_a_new_head(weights, tmp_path):
    folder, params = weights
    config = config_of(model_or_filename=str(folder), base_lr=1e-12)
    train(config, str(tmp_path / "run"), Console(quiet=True))
    trained = load_run(tmp_path / "run")
    found = trees.flatten(jax.device_get(trained.variables["params"]))
    assert set(found) == set(params)
    assert np.abs(found["head/kernel"]).max() < 1e-9
    assert found["head/kernel"].shape == (24, 10)
    for path in set(params) - {"head/kernel", "head/bias"}:
        if "pos_embedding" not in path:
            np.testing.assert_allclose(found[path], params[path], atol=1e-7, err_msg=path)
    assert found["Transformer/posembed_input/pos_embedding"].shape == (1, 5, 24)
    assert trained.preprocess.mean == (0.4, 0.5, 0.6)


def test_weights_are_not_needed_to_go_on(weights, tmp_path):
    moved = tmp_path / "copy"
    shutil.copytree(weights[0], moved)
    config = config_of(model_or_filename=str(moved))
    whole = train(config, str(tmp_path / "whole"), Console(quiet=True))
    train(config, str(tmp_path / "parts"), Console(quiet=True))
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "6")  # as if killed after step 4
    shutil.rmtree(moved)
    again = train(config, str(tmp_path / "parts"), Console(quiet=True))
    assert again.step == whole.step == 6
    a, b = (load_run(tmp_path / name).variables["params"] for name in ("whole", "parts"))
    assert trees.difference(jax.device_get(a), jax.device_get(b)) == []
    with pytest.raises(ConfigError, match="model_or_filename"):
        train(config_of(model_or_filename="other"), str(tmp_path / "parts"), Console(quiet=True))


def test_official_meaning_of_the_two_settings():
    def where(**changes):
        return weights_of(config_of(**changes))

    assert where() is None
    assert where(model_or_filename="x.npz") == "x.npz"
    assert where(pretrained_dir="D", model_or_filename="ViT-B_16") == "D/ViT-B_16.npz"
    recommended = "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"
    assert where(pretrained_dir="D/", model_or_filename="B_16") == f"D/{recommended}.npz"
    assert where(pretrained_dir="D", model={"model_name": "b16"}) == "D/ViT-B_16.npz"
    with pytest.raises(ConfigError, match="which file in it"):
        where(pretrained_dir="D")


def test_weights_that_do_not_fit_are_refused(weights, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        settled(config_of(model_or_filename=str(tmp_path / "no.npz")))
    deeper = {"transformer": {"num_layers": 3}}
    config = config_of(model_or_filename=str(weights[0]), model=deeper)
    with pytest.raises(CheckpointError, match="encoderblock_2"):
        train(config, str(tmp_path / "run"), Console(quiet=True))
    assert not (tmp_path / "run" / "checkpoints" / "1").exists()


def test_official_npz_by_folder_and_model_name(tmp_path):
    """The official way: pretrained_dir/{model_name}.npz, here of the `testing` architecture."""
    model = vit_jax.create_model("testing", 3)
    shapes = shapes_of(model, (32, 32))
    generator = np.random.default_rng(0)
    params = {path: generator.normal(0, 0.1, s).astype("f4") for path, s in shapes.items()}
    write_npz(tmp_path / "testing.npz", params)
    model = {"model_name": "testing"}
    config = config_of(pretrained_dir=str(tmp_path), model=model, pp={"crop": 32}, total_steps=3)
    assert weights_of(config) is not None
    train(config, str(tmp_path / "run"), Console(quiet=True))
    assert load_run(tmp_path / "run").step == 3


@pytest.mark.parametrize(
    "argument", ["", "weights.npz", "weights.npz,", ",data", "w,d,big", "w,d,0"]
)
def test_recipe_names_what_is_missing(argument):
    with pytest.raises(ConfigError, match=r"configs/finetune\.py"):
        load_config(f"configs/finetune.py:{argument}", [])


def test_recipe():
    config = load_config("configs/finetune.py:vit_ti16,PHOTOS,384", [])
    assert (config.model_or_filename, config.dataset, config.pp.crop) == ("vit_ti16", "PHOTOS", 384)
