"""LiT: the official code's numbers for both text towers, named models, what is refused."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import QUICK
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models import zoo
from vit_jax.models.inputs import example_inputs

CASES = ["lit_bert", "lit_bert_heads", "lit_text"]


def load_case(name: str) -> tuple[models.LitModel, dict[str, Any]]:
    config = dict(golden.load_json(name)["config"])
    if sizes := config.pop("bert_config", None):
        config["text"] = {"config": sizes}
    return models.LitModel(**config), golden.load_arrays(name)


def embed(model: Any, params: Any, images: Any = None, tokens: Any = None, **kwargs: Any) -> Any:
    """Returns (zimg, ztxt, t), compiled quickly."""
    function = jax.jit(
        lambda params, images, tokens: model.apply({"params": params}, images, tokens, **kwargs),
        compiler_options=QUICK,
    )
    return function(params, images, tokens)


def first_params(model: Any, seed: int = 0) -> Any:
    return jax.jit(model.init, compiler_options=QUICK)(jax.random.key(seed), IMAGES, TOKENS)[
        "params"
    ]


@pytest.mark.parametrize("name", CASES)
def test_embeddings_are_official(name):
    model, case = load_case(name)
    found = embed(model, case["params"], case["input"]["images"], case["input"]["tokens"])
    output = dict(zip(("zimg", "ztxt", "t"), found, strict=True))
    golden.assert_close_to_largest(output, case["output"], 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_init_is_official(name):
    model, case = load_case(name)
    key = jax.random.PRNGKey(golden.load_json(name)["init_seed"])
    init = jax.jit(model.init, compiler_options=QUICK)
    params = init(key, case["input"]["images"], case["input"]["tokens"])["params"]
    golden.assert_close_to_largest(params, case["init"], 1e-6)


def official_models() -> dict[str, Any]:
    return golden.load_json("official_lit_models")


def test_names_and_configs_are_official():
    official = official_models()
    for name, entry in official.items():
        fields = json.loads(json.dumps(zoo.model_fields(name)))  # tuples become lists
        assert fields == entry["config"], name


@pytest.mark.parametrize("name", ["LiT-B16B", "LiT-B16B_2", "LiT-L16L", "LiT-L16S", "LiT-L16Ti"])
def test_parameters_are_official(name):
    official = official_models()[name]
    model = models.create_model(name)
    params = jax.eval_shape(model.init, jax.random.key(0), *example_inputs(model, (224, 224)))
    shapes = {path: list(leaf.shape) for path, leaf in trees.flatten(params["params"]).items()}
    assert shapes == official["params"]
    assert trees.count(params) == official["num_params"]


@pytest.mark.parametrize("name", ["lit_bert", "lit_text"])
def test_either_tower_alone(name):
    model, case = load_case(name)
    zimg, no_text, _ = embed(model, case["params"], images=case["input"]["images"])
    no_image, ztxt, _ = embed(model, case["params"], tokens=case["input"]["tokens"])
    assert no_text is None
    assert no_image is None
    output = {"zimg": zimg, "ztxt": ztxt}
    golden.assert_close_to_largest(output, {k: case["output"][k] for k in output}, 1e-5)


def small(text_model: str = "bert", **fields: Any) -> Any:
    """A LiT of 16 numbers a token, for images of 8×8 pixels."""
    bert = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_dim": 8,
        "vocab_size": 12,
        "max_length": 6,
    }
    transformer = {"width": 16, "num_layers": 1, "mlp_dim": 8, "num_heads": 2, "vocab_size": 12}
    image = {
        "patches": {"size": (4, 4)},
        "hidden_size": 16,
        "transformer": {"num_layers": 2, "mlp_dim": 8, "num_heads": 2, "dropout_rate": 0.0},
    }
    fields = {
        "image": image,
        "text_model": text_model,
        "text": {"config": bert} if text_model == "bert" else transformer,
        "out_dim": (None, 16),
        "pp": {"max_len": 5},
        **fields,
    }
    built = zoo.create_model(None, **fields)
    assert isinstance(built, models.LitModel)
    return built


IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
TOKENS = jnp.asarray([[3, 4, 5, 0, 0], [3, 7, 0, 0, 0]])


def test_padding_is_not_read_by_bert():
    model = small()
    params = first_params(model)
    padded, bare = (embed(model, params, tokens=tokens)[1] for tokens in (TOKENS, TOKENS[:, :3]))
    np.testing.assert_allclose(padded, bare, atol=1e-6)
    assert np.isfinite(embed(model, params, tokens=jnp.zeros((1, 5), int))[1]).all()


@pytest.mark.parametrize("text_model", ["bert", "text_transformer"])
def test_bfloat16_is_for_the_computation_alone(text_model):
    exact, half = small(text_model), small(text_model, dtype="bfloat16")
    params = first_params(half)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    found, wanted = (embed(model, params, IMAGES, TOKENS) for model in (half, exact))
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=0.05)
    assert np.abs(found[0] - wanted[0]).max() > 0


def test_remat_and_kernel_of_the_image_tower_change_no_number():
    plain = small()
    params = first_params(plain)
    transformer = {**plain.image["transformer"]}
    transformer |= {"remat": "nothing_saveable", "attention": {"merged_qkv": True}}
    changed = small(image={**plain.image, "transformer": transformer})
    want, got = (embed(model, params, IMAGES)[0] for model in (plain, changed))
    np.testing.assert_allclose(want, got, atol=1e-6)


@pytest.mark.parametrize("text_model", ["bert", "text_transformer"])
def test_dropout_in_training_alone(text_model):
    text = {**small(text_model).text}
    if text_model == "bert":
        text = {"config": {**text["config"], "dropout_rate": 0.5}}
    else:
        text["dropout_rate"] = 0.5
    model = small(text_model, text=text)
    params = first_params(model)
    still = embed(model, params, tokens=TOKENS)[1]
    rngs = {"dropout": jax.random.key(1)}
    dropped = embed(model, params, tokens=TOKENS, train=True, rngs=rngs)[1]
    assert np.abs(still - dropped).max() > 1e-3


def test_gradients_are_finite_where_a_new_image_head_gives_zeros():
    model: Any = small(out_dim=(16, 16))

    def loss(params):
        zimg, ztxt, t = model.apply({"params": params}, IMAGES, TOKENS)
        return t[0] * (zimg @ ztxt.T).sum()

    gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)(first_params(model))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_model": "brt"}, "text_model='brt' is none of bert, text_transformer; did you mean"),
        ({"out_dim": (8, 16)}, "gives images 8 and texts 16 numbers each"),
        ({"text_model": "text_transformer", "out_dim": (None, None)}, "needs a head"),
        ({"text": {"config": "bas"}}, "text.config='bas' is none of base, large; did you mean"),
        ({"text": {"config": {"hidden_size": 16}}}, "text.config lacks num_hidden_layers, num_att"),
        ({"text": {"config": {"hiden_size": 16}}}, "did you mean 'hidden_size'"),
        ({"text": {"width": 16}}, "text field 'width' is unknown"),
        ({"image": {"hiden_size": 1}}, "image field 'hiden_size' is unknown; did you mean"),
        ({"pp": {"length": 1}}, "pp field 'length' is unknown"),
    ],
)
def test_wrong_fields_are_one_line(fields, message):
    with pytest.raises(ConfigError) as caught:
        first_params(small(**fields))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_places():
    with pytest.raises(ConfigError, match=r"texts of 7 tokens .* max_length=6"):
        small().init(jax.random.key(0), None, jnp.ones((1, 7), int))
