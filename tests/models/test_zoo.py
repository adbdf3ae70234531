"""The named models: configs, parameter counts and shapes, aliases, overrides."""

import json
from typing import Any

import jax
import ml_collections
import pytest

from tests import golden
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models import zoo
from vit_jax.models.compact import COMPACT

IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")


def official_models():
    return golden.load_json("official_models")


def test_names_and_configs_are_official():
    official = official_models()
    lit = golden.load_json("official_lit_models")
    assert models.list_models() == [*official, *COMPACT, *lit]
    for name, entry in official.items():
        fields = json.loads(json.dumps(zoo.model_fields(name)))  # tuples become lists
        assert fields == entry["config"], name


@pytest.mark.parametrize(
    "name", [n for n in models.list_models() if n not in COMPACT and not n.startswith("LiT")]
)
def test_parameters_are_official(name):
    official = official_models()[name]
    model = models.create_model(name)
    params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    shapes = {path: list(leaf.shape) for path, leaf in trees.flatten(params).items()}
    assert shapes == official["params"]
    assert trees.count(params) == official["num_params"]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ViT-B_16", "ViT-B_16"),
        ("vit_b16", "ViT-B_16"),
        ("ViT-B/16", "ViT-B_16"),
        ("B/16", "ViT-B_16"),
        ("ti16", "ViT-Ti_16"),
        ("vit-h-14", "ViT-H_14"),
        ("vit_s16_gap_norep", "ViT-S_16-gap-norep"),
        ("r50_vit_b16", "R50+ViT-B_16"),
        ("r50_b16", "R50+ViT-B_16"),  # the official config's function
        ("R50+ViT-L/32", "R50+ViT-L_32"),
        ("r_vit_ti16", "R+ViT-Ti_16"),
        ("testing", "testing"),
        ("mixer_b16", "Mixer-B_16"),
        ("Mixer-L/16", "Mixer-L_16"),
        ("lit_b16b", "LiT-B16B"),
        ("LiT-B16B-2", "LiT-B16B_2"),
    ],
)
def test_aliases(alias, name):
    assert zoo.canonical_name(alias) == name
    assert models.create_model(alias).model_name == name


def test_no_two_names_share_an_alias():
    names = models.list_models()
    assert [zoo.canonical_name(name) for name in names] == names


@pytest.mark.parametrize(
    ("name", "close"), [("ViT-B_15", "ViT-B_16"), ("r50+vit-b_17", "R50+ViT-B_16")]
)
def test_unknown_name_is_one_line_with_the_nearest(name, close):
    with pytest.raises(ConfigError) as caught:
        models.create_model(name)
    assert repr(name) in str(caught.value)
    assert f"did you mean {close!r}?" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "vit", "resnet50"])
def test_a_name_that_fits_no_model(name):
    with pytest.raises(ConfigError, match="is unknown"):
        zoo.canonical_name(name)


def test_a_name_decides_the_class():
    assert isinstance(models.create_model("B/16"), models.VisionTransformer)
    assert isinstance(models.create_model("mixer-b16"), models.MlpMixer)


def test_models_of_your_own():
    own: dict[str, Any] = {"patches": {"size": (4, 4)}, "hidden_size": 8, "transformer": None}
    model = models.create_model(None, 3, **own, classifier="gap")
    assert model == models.VisionTransformer(num_classes=3, **own, classifier="gap")
    sizes: dict[str, Any] = {
        "num_blocks": 1,
        "hidden_dim": 8,
        "tokens_mlp_dim": 4,
        "channels_mlp_dim": 16,
    }
    mixer = models.create_model(None, 3, patches={"size": (4, 4)}, **sizes)
    assert mixer == models.MlpMixer(num_classes=3, patches={"size": (4, 4)}, **sizes)
    with pytest.raises(ConfigError, match="also needs channels_mlp_dim, patches; give them"):
        models.create_model(None, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4)
    with pytest.raises(ConfigError, match="also needs hidden_size, transformer; give them"):
        models.create_model(None, patches={"size": (4, 4)})


@pytest.mark.parametrize(
    ("name", "field", "close"),
    [("Mixer-B_16", "hidden_size", "hidden_dim"), ("ViT-B_16", "hidden_dim", "hidden_size")],
)
def test_fields_of_the_other_family_are_named(name, field, close):
    with pytest.raises(ConfigError, match=f"field '{field}' is unknown; did you mean '{close}'"):
        models.create_model(name, **{field: 8})


@pytest.mark.parametrize("wrap", [dict, ml_collections.ConfigDict])
def test_fields_override_and_mappings_merge(wrap):
    model = models.create_model(
        "ViT-L_16", 7, classifier="gap", transformer=wrap({"num_layers": 3}), dtype="bfloat16"
    )
    assert (model.num_classes, model.classifier, model.dtype) == (7, "gap", "bfloat16")
    assert model.transformer == {
        "mlp_dim": 4096,
        "num_heads": 16,
        "num_layers": 3,
        "attention_dropout_rate": 0.0,
        "dropout_rate": 0.1,
    }
    hybrid = models.create_model("ViT-B_16", resnet=wrap({"num_layers": (), "width_factor": 1}))
    assert hybrid.resnet == {"num_layers": (), "width_factor": 1}
    assert models.create_model("R26+ViT-S_32", resnet=None).resnet is None


def test_fields_are_fresh():
    zoo.model_fields("ViT-B_16")["transformer"]["num_layers"] = 1
    assert zoo.model_fields("ViT-B_16")["transformer"]["num_layers"] == 12


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classifer": "gap"}, "field 'classifer' is unknown; did you mean 'classifier'"),
        ({"parent": None}, "field 'parent' is unknown"),
        ({"transformer": {"droput_rate": 0.1}}, "transformer field 'droput_rate' is unknown; did"),
        ({"patches": {"sizes": (8, 8)}}, "patches field 'sizes' is unknown; did you mean 'size'"),
        ({"resnet": {"layers": (1,)}}, "resnet field 'layers' is unknown"),
    ],
)
def test_unknown_fields_are_named(fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        models.create_model("ViT-B_16", **fields)
    assert "\n" not in str(caught.value)
