"""Runs that start from pretrained weights: what those decide, and that they may then go."""

import shutil

import jax
import numpy as np
import pytest

import vit_jax
from tests import runs
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.checkpoints.store import Store
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
from vit_jax.run import Run
from vit_jax.runtime.signals import StopSignals
from vit_jax.tasks import build
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


def test_positions_of_an_oblong_grid_become_those_of_the_images(tmp_path):
    encoder = {"num_layers": 1, "num_heads": 2, "mlp_dim": 16}
    patches = {"size": (4, 2)}
    model = vit_jax.create_model(None, 3, patches=patches, hidden_size=8, transformer=encoder)
    shapes = shapes_of(model, (8, 16))
    rng = np.random.default_rng(0)
    params = trees.unflatten({p: rng.normal(size=s).astype("f4") for p, s in shapes.items()})
    for to in ("official", "timm"):
        save_pretrained(tmp_path / to, model, {"params": params}, Preprocess((8, 16)), format=to)
        config = settled(config_of(model_or_filename=str(tmp_path / to)))
        assert tuple(config.model.patches.size) == (4, 2)
        assert config.model.positions.grid is None
        wide = {"patches": {"size": (4, 1)}}  # 2×8 patches of the images of 8 × 8 pixels
        config = settled(config_of(model_or_filename=str(tmp_path / to), model=wide))
        assert tuple(config.model.positions.grid) == (2, 8)


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


def quietly(config, workdir):
    return train(config, str(workdir), Console(quiet=True))


def saved(workdir):
    return runs.last_saved(workdir).state


def test_train_only_leaves_every_other_bit_and_keeps_nothing_for_it(weights, tmp_path):
    config = config_of(
        model_or_filename=str(weights[0]), train_only=("head",), ema_decay=0.9, weight_decay=0.1
    )
    quietly(config, tmp_path / "run")
    state = saved(tmp_path / "run")
    first = state_at_start(config, tmp_path)
    moved = trees.difference(jax.device_get(first.params), state["params"])
    assert moved == ["! head/bias: values differ", "! head/kernel: values differ"]
    for name in ("opt_state", "ema"):
        paths = [path for path, leaf in trees.flatten(state[name]).items() if np.ndim(leaf)]
        assert paths
        assert all("head" in path for path in paths)
    found = load_run(tmp_path / "run").variables["params"]
    assert trees.difference(jax.device_get(found), {**state["params"], **state["ema"]}) == []


def state_at_start(config, folder):
    with Store(folder / "none") as store:
        return Run(build(settled(config)), store, StopSignals()).start(Console(quiet=True))


def test_a_run_of_its_head_goes_on_after_a_kill_with_the_same_bits(weights, tmp_path):
    changes = {"train_only": ("head",), "ema_decay": 0.9, "mesh": {"fsdp": 2}}
    config = config_of(model_or_filename=str(weights[0]), **changes)
    for name in ("whole", "parts"):
        quietly(config, tmp_path / name)
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "6")
    assert quietly(config, tmp_path / "parts").step == 6
    assert runs.differences(tmp_path / "whole", tmp_path / "parts", 6) == []
    with pytest.raises(ConfigError, match=r"train_only .*use another workdir"):
        quietly(config_of(model_or_filename=str(weights[0]), ema_decay=0.9), tmp_path / "parts")


def test_no_backward_pass_goes_through_what_is_not_trained(weights, tmp_path):
    def operations(**changes):
        config = settled(config_of(model_or_filename=str(weights[0]), **changes))
        with Store(tmp_path / "none") as store:
            run = Run(build(config), store, StopSignals())
            cost = run._program.compile().cost_analysis()
        assert cost is not None
        return cost["flops"]

    assert operations(train_only=("head",)) < 0.5 * operations()


def test_running_statistics_of_a_stem_that_is_not_trained_stay(tmp_path):
    fields = {"model": {"stem": "conv", "stem_fields": {"layers": ((8, 2),)}, "hidden_size": 16}}
    source, tuned = tmp_path / "source", tmp_path / "tuned"
    small = {"transformer": dict(runs.TINY["model"]["transformer"], dropout_rate=0.0)}
    quietly(config_of(model={**small, **fields["model"]}), source)
    config = config_of(model_or_filename=str(source), train_only=("head",))
    quietly(config, tuned)
    before, after = saved(source), saved(tuned)
    assert trees.difference(before["batch_stats"], after["batch_stats"]) == []
    assert trees.difference(before["params"]["stem"], after["params"]["stem"]) == []


@pytest.mark.parametrize(
    ("names", "from_weights", "says"),
    [
        (("haed",), True, r"train_only=\('haed',\): the model has no part 'haed'; did you mean "
         r"'head'\? \(its parts are Transformer, cls, embedding, head\)"),
        (("head",), False, r"train_only=\('head',\): the other parts have no weights to keep"),
    ],
)  # fmt: skip
def test_wrong_parts_are_one_line_before_there_is_a_workdir(
    weights, tmp_path, names, from_weights, says
):
    model = {} if from_weights else runs.TINY["model"]
    source = str(weights[0]) if from_weights else None
    config = config_of(model_or_filename=source, model=model, train_only=names)
    with pytest.raises(ConfigError, match=says):
        quietly(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
