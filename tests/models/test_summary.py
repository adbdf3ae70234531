"""Summaries: rows, parameters, and operations by formula against the compiled program."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax import models, trees
from vit_jax.errors import DataError
from vit_jax.models.summary import compiled_flops, summarize

SHALLOW = {"transformer": {"num_layers": 2}}


def test_operations_by_hand():
    model = models.create_model(
        None, 10, patches={"size": (4, 4)}, hidden_size=8,
        transformer={"num_layers": 2, "mlp_dim": 16, "num_heads": 2},
    )  # fmt: skip
    summary = summarize(model, (8, 12))
    n, d = 2 * 3 + 1, 8
    embedding = 2 * 6 * (4 * 4 * 3) * d
    block = 4 * (2 * n * d * d) + 2 * (2 * n * n * d) + 2 * (2 * n * d * 16)
    assert summary.flops == embedding + 2 * block + 2 * d * 10
    names = [(row.name, row.count, row.flops) for row in summary.layers]
    assert names == [
        ("cls", 1, 0),
        ("embedding", 1, embedding),
        ("Transformer/posembed_input", 1, 0),
        ("Transformer/encoderblock_0 … 1", 2, block),
        ("Transformer/encoder_norm", 1, 0),
        ("head", 1, 2 * d * 10),
    ]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ViT-Ti_16", SHALLOW),
        ("ViT-S_32-gap-norep", SHALLOW),
        ("R+ViT-Ti_16", SHALLOW),
        ("R26+ViT-S_32", SHALLOW),
        ("Mixer-B_32", {"num_blocks": 2}),
        ("cct_7_7x2_224", {}),
        ("ViT-Ti_16", {"pool": "attention", **SHALLOW}),
        ("ViT-Ti_16", {"transformer": {"num_layers": 2, "mlp": "gated"}}),
        ("ViT-Ti_16", {"stem": "conv", **SHALLOW}),
        ("testing", {}),
        ("testing-unpooled", {}),
        ("compact_cifar_sequence", {"transformer": {"num_layers": 1}}),
        ("LiT-L16Ti", {"image": SHALLOW, "text": {"num_layers": 2}}),
        ("LiT-B16B", {"image": SHALLOW}),
    ],
)
def test_formula_and_compiled_program_agree_within_3_percent(name, fields):
    model = models.create_model(name, **fields)
    summary = summarize(model, (224, 224))
    formula = summary.flops + summary.elementwise
    assert compiled_flops(model, (224, 224)) == pytest.approx(formula, rel=0.03)


@pytest.mark.parametrize("name", ["ViT-B_16", "R50+ViT-B_16", "Mixer-B_16", "cct_14_7x2_224"])
def test_rows_hold_every_parameter(name):
    model = models.create_model(name)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    summary = summarize(model, (224, 224))
    assert summary.params == trees.count(params)
    assert sum(row.count * row.params for row in summary.layers) == summary.params
    assert sum(row.count * row.flops for row in summary.layers) == summary.flops


def test_published_operations_of_b16():
    """17.6 billion multiplications at 224 px, 55.5 at 384 px (arXiv:2012.12877, table 5)."""
    model = models.create_model("ViT-B_16")
    for size, billions in ((224, 17.6), (384, 55.5)):
        assert summarize(model, (size, size)).flops / 2e9 == pytest.approx(billions, rel=0.005)


def test_a_size_without_patches_is_named():
    with pytest.raises(DataError, match="8×8 pixels holds no patch of 16×16"):
        summarize(models.create_model("ViT-B_16"), (8, 8))
