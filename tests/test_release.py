"""Weights out and back: any model that a format has, to the last bit; what it has not, refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import QUICK
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints import writing
from vit_jax.checkpoints.arrays import read_arrays, write_npz
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.models.pruning import prune_heads
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of
from vit_jax.pretrained import load_pretrained, open_pretrained
from vit_jax.release import convert, save_pretrained

BICUBIC = Preprocess((32, 32), 40, True, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bicubic")


def released(name="vit_token"):
    return golden.shared("golden", f"{name}.released.npz")


@pytest.mark.parametrize("name", ["vit_token", "hybrid_r"])
@pytest.mark.parametrize("to", ["timm", "transformers", "official"])
def test_a_published_file_there_and_back_has_the_same_bits(name, to, tmp_path):
    if name == "hybrid_r" and to != "official":
        with pytest.raises(CheckpointError, match=r"no hybrid|no place"):
            convert(released(name), tmp_path / "there", to)
        return
    convert(released(name), tmp_path / "there", to)
    back = convert(tmp_path / "there", tmp_path / "back.npz", "official")
    assert trees.difference(read_arrays(back), read_arrays(released(name))) == []


@pytest.mark.parametrize("golden_folder", ["timm_vit", "timm_vit_gap", "hf_vit"])
def test_files_of_other_libraries_there_and_back(golden_folder, tmp_path):
    source = golden.shared("golden", golden_folder)
    to = "transformers" if golden_folder == "hf_vit" else "timm"
    convert(source, tmp_path / "there", "official")
    convert(tmp_path / "there", tmp_path / "back", to)
    assert trees.difference(read_arrays(tmp_path / "back"), read_arrays(source)) == []
    with np.load(source / "expected.npz") as expected:
        images = jnp.asarray(expected["pixel_values_nchw"].transpose(0, 2, 3, 1))
        for folder in ("there", "back"):
            model, variables, _ = load_pretrained(tmp_path / folder)
            logits = jax.jit(model.apply)(variables, images)
            np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


def test_bfloat16_stays_bfloat16(tmp_path):
    arrays = {k: v.astype(jnp.bfloat16) for k, v in read_arrays(released()).items()}
    write_npz(tmp_path / "half.npz", arrays)
    convert(tmp_path / "half.npz", tmp_path / "half.safetensors", "timm")
    back = convert(tmp_path / "half.safetensors", tmp_path / "back.npz", "official")
    assert trees.difference(read_arrays(back), arrays) == []
    _, variables, _ = load_pretrained(back)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("to", ["timm", "transformers", "official"])
def test_a_saved_folder_has_all_that_travels_with_weights(to, tmp_path):
    model, variables, _ = load_pretrained(released(), num_classes=3)
    names = ("cat", "dog", "ďábel")
    save_pretrained(
        tmp_path / "out", model, variables, BICUBIC, class_names=names, format=to,
        recipe={"base_lr": 0.03}, score={"accuracy": 0.985},
    )  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("cat, dog, ďábel", '"accuracy": 0.985', '"base_lr": 0.03', "pipeline_tag"):
        assert part in card
    loaded = open_pretrained(tmp_path / "out")
    assert loaded.preprocess == BICUBIC
    assert loaded.class_names == names
    assert trees.difference(loaded.variables, variables) == []
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    if to == "timm":
        assert config["label_names"] == list(names)
        assert config["pretrained_cfg"]["crop_pct"] == 0.8
    if to == "transformers":
        assert config["id2label"] == {"0": "cat", "1": "dog", "2": "ďábel"}
        processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
        assert processor["size"] == {"shortest_edge": 40}
        assert processor["crop_size"] == {"height": 32, "width": 32}


ALONE = {
    "fixed positions": ("official", {"positions": "sincos2d"}),
    "no class token": ("big_vision", {"classifier": "unpooled"}),
    "no encoder": ("official", {"transformer": None, "classifier": "gap"}),
    "every token": ("official", {"classifier": "token_unpooled"}),
    "timm's": ("official", {"encoder": {"activation": "gelu_erf", "epsilon": 1e-5}}),
}


@pytest.mark.parametrize("case", ALONE)
def test_an_npz_alone_is_the_same_model(case, tmp_path):
    to, changes = ALONE[case]
    model = create_model(None, 3, **tiny(**changes))
    params = trees.unflatten(random_params(model))
    names = ("cat", "dog", "ďábel")
    save_pretrained(
        tmp_path / "there", model, {"params": params}, BICUBIC, class_names=names, format=to
    )
    opened = open_pretrained(convert(tmp_path / "there", tmp_path / "alone.npz", to))
    assert (opened.preprocess, opened.class_names) == (BICUBIC, names)
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    logits, wanted = (
        jax.jit(m.apply, compiler_options=QUICK)(v, images)
        for m, v in ((opened.model, opened.variables), (model, {"params": params}))
    )
    assert logits.shape == wanted.shape
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_class_names_too_long_for_an_npz_alone_are_left_out_aloud(tmp_path, caplog):
    model = create_model(None, 3, **tiny())
    variables = {"params": trees.unflatten(random_params(model))}
    names = tuple(letter * 30_000 for letter in "abc")
    save_pretrained(
        tmp_path / "there", model, variables, BICUBIC, class_names=names, format="official"
    )
    alone = convert(tmp_path / "there", tmp_path / "alone.npz", "official")
    assert "the names of the classes are too long for an npz that stands alone" in caplog.text
    opened = open_pretrained(alone)
    assert (opened.preprocess, opened.class_names) == (BICUBIC, None)


def test_names_for_other_classes_are_refused(tmp_path):
    model, variables, preprocess = load_pretrained(released())
    with pytest.raises(CheckpointError, match="2 names for 10 classes"):
        save_pretrained(tmp_path, model, variables, preprocess, class_names=("a", "b"))


def with_statistics():
    """A model behind a convolutional stem, and random variables of it."""
    model = create_model(None, 3, **tiny(patches=None, stem="conv", classifier="gap"))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), images)
    return model, jax.tree.map(lambda a: rng.uniform(0.1, 0.5, a.shape).astype("f4"), shapes)


@pytest.mark.parametrize("alone", [False, True])
def test_running_statistics_are_official_arrays(alone, tmp_path):
    model, variables = with_statistics()
    source = tmp_path / "there"
    save_pretrained(source, model, variables, Preprocess((32, 32)), format="official")
    if alone:
        source = convert(source, tmp_path / "alone.npz", "official")
    opened = open_pretrained(source)
    assert trees.difference(opened.variables, variables) == []
    assert fields_of(opened.model)["stem"] == "conv"
    apply = jax.jit(opened.model.apply, compiler_options=QUICK)
    assert apply(opened.variables, np.ones((1, 32, 32, 3), np.float32)).shape == (1, 3)


@pytest.mark.parametrize("to", ["timm", "transformers", "big_vision"])
def test_running_statistics_have_no_other_place(to, tmp_path):
    with pytest.raises(CheckpointError, match=f"running statistics, which {to} has no place for"):
        save_pretrained(tmp_path, *with_statistics(), Preprocess((32, 32)), format=to)
    assert list(tmp_path.iterdir()) == []


def test_damaged_statistics_are_refused(tmp_path):
    model, variables = with_statistics()
    variables["batch_stats"]["stem"]["norm_0"]["var"][0] = np.nan
    save_pretrained(tmp_path, model, variables, Preprocess((32, 32)), format="official")
    with pytest.raises(CheckpointError, match=r"NaN or infinite, in batch_stats/stem/norm_0/var"):
        open_pretrained(tmp_path)


def pruned(*gone):
    """A model of two layers of four heads, and parameters without these of them."""
    model = create_model(None, 3, **tiny(encoder={"num_heads": 4}))
    params = trees.unflatten(random_params(model))
    return model, {"params": prune_heads(params, dict(enumerate(gone)))}


@pytest.mark.parametrize("gone", [([0, 1], [1, 3]), ([2], [])])
def test_a_pruned_model_is_saved_as_what_it_is(gone, tmp_path):
    model, variables = pruned(*gone)
    save_pretrained(tmp_path / "out", model, variables, Preprocess((32, 32)), format="official")
    opened = open_pretrained(tmp_path / "out")
    assert trees.difference(opened.variables, variables) == []
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    logits, wanted = (
        jax.jit(m.apply, compiler_options=QUICK)(variables, images) for m in (opened.model, model)
    )
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    for to in ("timm", "transformers"):
        with pytest.raises(CheckpointError, match=r"has no .*heads"):
            save_pretrained(tmp_path / to, model, variables, Preprocess((32, 32)), format=to)


@pytest.mark.parametrize("to", ["timm", "transformers"])
def test_a_pruned_file_of_others_is_refused(to, tmp_path):
    model, variables = pruned([0, 1], [1, 3])
    fields = fields_of(model)
    beside = writing.configs(to, fields, (32, 32), Preprocess((32, 32)).to_dict(), None)
    writing.write_weights(tmp_path, to, trees.flatten(variables["params"]), fields, beside)
    with pytest.raises(CheckpointError, match="queries are 8 wide and its tokens 16") as error:
        open_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("to", ["timm", "transformers"])
@pytest.mark.parametrize("pool", ["mean", None])
def test_a_compact_transformer_is_refused_by_those_that_have_none(pool, to, tmp_path):
    model = create_model("cct_2_3x2_32", 3, **({"pool": pool} if pool else {}))
    params = trees.unflatten(random_params(model))
    with pytest.raises(CheckpointError, match=r"has no .*stem='cct'; convert to .*'official'"):
        save_pretrained(tmp_path, model, {"params": params}, Preprocess((32, 32)), format=to)


def test_parameters_of_another_model_are_refused(tmp_path):
    _, variables = pruned()
    model = create_model(None, 3, **tiny(encoder={"num_heads": 4, "mlp_dim": 12}))
    with pytest.raises(CheckpointError, match=r"MlpBlock_\*/Dense_\*/bias .*give the model that"):
        save_pretrained(tmp_path / "out", model, variables, Preprocess((32, 32)))
    plain = {**pruned()[1], "batch_stats": {"mean": jnp.zeros(3)}}
    with pytest.raises(CheckpointError, match=r"batch_stats/mean; give the model that"):
        save_pretrained(tmp_path / "out", pruned()[0], plain, Preprocess((32, 32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "to", "message"),
    [("out", "tim", "did you mean 'timm'"), ("out.npz", "timm", "the timm format is .safetensors")],
)
def test_wrong_formats_and_targets(target, to, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        convert(released(), tmp_path / target, to)
    assert list(Path(tmp_path).iterdir()) == []


def test_another_epsilon_is_said_aloud(tmp_path, caplog):
    convert(golden.shared("golden", "hf_vit"), tmp_path / "timm", "timm")
    assert "epsilon 1e-06, and this model has 1e-12" in caplog.text
    assert fields_of(load_pretrained(tmp_path / "timm")[0])["transformer"]["epsilon"] == 1e-12
