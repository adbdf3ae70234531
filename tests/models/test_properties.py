"""Properties that hold for any width, heads, grid, pool and stem."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.running import apply, random_params
from vit_jax import models, trees
from vit_jax.models.summary import summarize

# Few, and always the same: each is compiled. Shapes alone cost little, and are tried more often.
COMPUTED = settings(max_examples=5, deadline=None, derandomize=True)
SHAPES = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def fields(draw: Any) -> dict[str, Any]:
    """Any combination of what a VisionTransformer can be made of."""
    heads, width = draw(st.integers(1, 3)), 4 * draw(st.integers(1, 2))
    transformer = {
        "num_layers": draw(st.integers(1, 2)),
        "num_heads": heads,
        "mlp_dim": 2 * draw(st.integers(1, 6)),
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
        "mlp": draw(st.sampled_from(["mlp", "gated"])),
        "activation": draw(st.sampled_from(["gelu_tanh", "gelu_erf"])),
        "layer_scale": draw(st.sampled_from([None, 0.1])),
        "attention": {
            "merged_qkv": draw(st.booleans()),
            "qk_norm": draw(st.booleans()),
            "qkv_bias": draw(st.booleans()),
        },
    }
    return {
        "patches": {"size": (draw(st.integers(1, 4)), draw(st.integers(1, 4)))},
        "hidden_size": heads * width,
        "transformer": transformer,
        "pool": draw(
            st.sampled_from(["token", "mean", "sequence", "attention", "none", "distilled"])
        ),
        "pool_norm": draw(st.booleans()),
        "positions": {
            "kind": draw(st.sampled_from(["learned", "sincos2d", "none"])),
            "class_row": draw(st.booleans()),
        },
        "num_registers": draw(st.integers(0, 2)),
        "representation_size": draw(st.sampled_from([None, 5])),
    }


SIZES = st.tuples(st.integers(4, 9), st.integers(4, 9))


def images_of(size: tuple[int, int], count: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (count, *size, 3))


@SHAPES
@given(fields(), SIZES)
def test_shapes_follow_from_the_fields(fields, size):
    model = models.create_model(None, 3, **fields)
    grid = tuple(n // p for n, p in zip(size, fields["patches"]["size"], strict=True))
    front = {"token": 1, "distilled": 2}.get(fields["pool"], 0)
    tokens = front + fields["num_registers"] + grid[0] * grid[1]
    result = jax.eval_shape(
        lambda x: model.init_with_output(
            jax.random.key(0), x, outputs=("attention", "hidden_states", "patch_features")
        ),
        images_of(size),
    )
    (logits, seen), variables = result
    read = (2, tokens - fields["num_registers"], 3) if fields["pool"] == "none" else (2, 3)
    assert logits.shape == read
    assert logits.dtype == jnp.float32
    width, heads = fields["hidden_size"], fields["transformer"]["num_heads"]
    assert all(state.shape == (2, tokens, width) for state in seen["hidden_states"])
    assert all(w.shape == (2, heads, tokens, tokens) for w in seen["attention"].values())
    assert seen["patch_features"].shape == (2, *grid, width)
    table = variables["params"]["Transformer"].get("posembed_input")
    assert (table is not None) == (fields["positions"]["kind"] == "learned")
    if table is not None:
        rows = grid[0] * grid[1] + (front if fields["positions"]["class_row"] else 0)
        assert table["pos_embedding"].shape == (1, rows, width)
    assert summarize(model, size).params == trees.count(variables["params"])


@COMPUTED
@given(fields(), SIZES)
def test_images_do_not_see_each_other(fields, size):
    """The logits of an image are the same alone and in any company."""
    model = models.create_model(None, 3, **fields)
    images = images_of(size, 3)
    params = random_params(model, images)
    together, alone = apply(model, params, images), apply(model, params, images[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-4)


@COMPUTED
@given(fields(), SIZES, st.randoms(use_true_random=False))
def test_pruned_equals_masked(fields, size, random):
    model = models.create_model(None, 3, **fields)
    images = images_of(size)
    params = random_params(model, images)
    layers, heads = fields["transformer"]["num_layers"], fields["transformer"]["num_heads"]
    gone = {i: random.sample(range(heads), random.randrange(heads)) for i in range(layers)}
    mask = np.ones((layers, heads), np.float32)
    for layer, silenced in gone.items():
        mask[layer, silenced] = 0
    want = apply(model, params, images, head_mask=jnp.asarray(mask))
    pruned = models.prune_heads(params, gone)
    assert isinstance(model, models.VisionTransformer)
    got = apply(models.fit_heads(model, pruned), pruned, images)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(jnp.abs(want).max()))
