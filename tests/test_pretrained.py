"""Weights of every ecosystem load, adapt, and give their own logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of
from vit_jax.pretrained import load_pretrained, open_pretrained

DEIT = {
    "resize": 256,
    "antialias": True,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def apply(model, variables, images, **further):
    return jax.jit(lambda v, x: model.apply(v, x, **further))(variables, images)


def nhwc(images):
    return jnp.asarray(images.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("name", ["vit_token", "hybrid_r"])
def test_published_npz(name):
    model, variables, preprocess = load_pretrained(golden.shared("golden", f"{name}.released.npz"))
    case = golden.load_arrays(name)
    assert trees.difference(jax.device_get(variables["params"]), case["params"]) == []
    logits = apply(model, variables, jnp.asarray(case["input"]["images"]))
    golden.assert_close_to_largest(logits, case["output"]["logits"], 1e-5)
    assert preprocess.size == tuple(case["input"]["images"].shape[1:3])
    assert (preprocess.mean, preprocess.resize) == ((0.5, 0.5, 0.5), None)


@pytest.mark.parametrize("name", ["timm_vit", "timm_vit_gap"])
def test_timm(name):
    folder = golden.shared("golden", name)
    model, variables, _ = load_pretrained(folder)
    with np.load(folder / "expected.npz") as expected:
        images = nhwc(expected["pixel_values_nchw"])
        logits, seen = apply(model, variables, images, outputs=("hidden_states",))
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
        assert seen["hidden_states"][-1].shape == expected["features"].shape


def test_transformers_with_hidden_states_and_attention():
    folder = golden.shared("golden", "hf_vit")
    loaded = open_pretrained(folder)
    with np.load(folder / "expected.npz") as expected:
        images = nhwc(expected["pixel_values_nchw"])
        outputs = ("attention", "hidden_states")
        logits, seen = apply(loaded.model, loaded.variables, images, outputs=outputs)
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
        for layer in range(2):
            weights = expected[f"attention/{layer}"]
            np.testing.assert_allclose(seen["attention"][layer], weights, atol=1e-4)
        for layer in range(3):
            states = expected[f"hidden_state/{layer}"]
            np.testing.assert_allclose(seen["hidden_states"][layer], states, atol=1e-4)
    assert loaded.class_names is None, "LABEL_0 is no name"
    assert fields_of(loaded.model)["transformer"]["epsilon"] == 1e-12


def deit_tiny(**changes):
    path = golden.shared("pretrained", "deit_tiny", "deit_tiny_patch16_224.npz")
    fields = {"transformer": {"activation": "gelu_erf"}, "preprocess": DEIT}
    return load_pretrained(path, **{**fields, **changes})


def test_real_weights_call_the_photograph_tabby():
    folder = golden.shared("pretrained", "deit_tiny")
    model, variables, preprocess = deit_tiny()
    with np.load(folder / "expected.npz") as expected:
        logits = apply(model, variables, nhwc(expected["pixel_values_nchw"]))
        want = expected["logits_erf_gelu"]
    np.testing.assert_allclose(logits, want, atol=1e-3)
    ours = np.asarray(apply(model, variables, preprocess(folder / "coco_000000039769.png")))
    np.testing.assert_allclose(ours, want, atol=0.05)
    assert np.argsort(-ours[0])[:3].tolist() == [281, 282, 285]
    assert model.model_name == "ViT-Ti_16"


def test_fine_tuning_starts_from_the_official_state():
    wanted = golden.load_arrays("finetune_sgd")["loaded"]
    path = golden.shared("golden", "finetune_sgd.pretrained.npz")
    loaded = open_pretrained(path, num_classes=10, image_size=48)
    golden.assert_close_to_largest(loaded.variables["params"], wanted, 1e-6)
    assert loaded.model.num_classes == 10
    assert loaded.preprocess.size == (48, 48)
    assert loaded.class_names is None
    assert "head/kernel: zeros" in str(loaded.report)


def released(name="vit_token"):
    return golden.shared("golden", f"{name}.released.npz")


def test_an_oblong_size_is_remembered_by_the_model():
    model, variables, preprocess = load_pretrained(
        released(), image_size=(24, 40), positions={"resize": "bicubic"}
    )
    assert preprocess.size == (24, 40)
    assert model.positions == {"resize": "bicubic", "grid": (3, 5)}
    assert apply(model, variables, jnp.zeros((1, 24, 40, 3))).shape == (1, 10)
    assert apply(model, variables, jnp.zeros((1, 40, 24, 3))).shape == (
        1,
        10,
    )


def test_positions_that_are_resized_when_called_keep_their_grid():
    """Images of 2×8 patches, which are as many as 4×4, as if weights were loaded for them."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 64, 3)), jnp.float32)
    model, variables, preprocess = load_pretrained(released(), positions={"resize": "bilinear"})
    assert preprocess.size == (32, 32)
    assert model.positions == {"resize": "bilinear", "grid": (4, 4)}
    wanted = apply(*load_pretrained(released(), image_size=(16, 64))[:2], images)
    np.testing.assert_allclose(apply(model, variables, images), wanted, rtol=1e-4, atol=1e-5)
    assert load_pretrained(released())[0].positions == "learned"


def test_another_patch_size_keeps_the_image_size_and_resizes_positions():
    loaded = open_pretrained(released(), patches={"size": (16, 16)})
    params = loaded.variables["params"]
    assert params["embedding"]["kernel"].shape == (16, 16, 3, 32)
    assert params["Transformer"]["posembed_input"]["pos_embedding"].shape == (1, 5, 32)
    assert set(loaded.report.reshaped) == {
        "embedding/kernel",
        "Transformer/posembed_input/pos_embedding",
    }
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    assert np.isfinite(apply(loaded.model, loaded.variables, images)).all()


def test_zero_classes_takes_the_head_off():
    loaded = open_pretrained(released(), num_classes=0)
    assert "head" not in loaded.variables["params"]
    assert loaded.report.dropped == ("head/bias", "head/kernel")
    assert apply(loaded.model, loaded.variables, jnp.zeros((1, 32, 32, 3))).shape == (1, 32)


def test_parts_the_file_lacks_are_refused_unless_not_strict():
    with pytest.raises(CheckpointError, match="missing registers"):
        load_pretrained(released(), num_registers=2)
    loaded = open_pretrained(released(), num_registers=2, strict=False)
    assert loaded.variables["params"]["registers"].shape == (1, 2, 32)
    assert list(loaded.report.new) == ["registers"]


def test_a_wrong_description_is_one_error_with_every_key():
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(released(), model_name="vit_b16")
    assert "\n" not in str(caught.value)
    assert "embedding/kernel" in str(caught.value)


@pytest.mark.parametrize("size", [0, (32, -1)])
def test_a_size_that_cannot_be(size):
    with pytest.raises(ConfigError, match="must be positive"):
        load_pretrained(released(), image_size=size)


def test_a_file_that_is_not_there_is_named_with_the_nearest(tmp_path):
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"did you mean 'weights\.npz'"):
        load_pretrained(tmp_path / "weight.npz")


def test_unknown_arrays_are_shown(tmp_path):
    write_npz(tmp_path / "f.npz", {"some/array": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"no known format.*some/array"):
        load_pretrained(tmp_path / "f.npz")


def test_layers_beyond_number_are_one_line(tmp_path, capsys):
    shapes = {"embedding/kernel": (4, 4, 3, 8), "embedding/bias": (8,), "pos_embedding": (1, 4, 8)}
    shapes["Transformer/encoderblock/LayerNorm_0/scale"] = (1_000_000, 0)
    arrays = {f"params/{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_npz(tmp_path / "f.npz", arrays)
    assert main(["convert", str(tmp_path / "f.npz"), str(tmp_path / "out"), "--to=timm"]) == 3
    error = capsys.readouterr().err
    assert "LayerNorm_0/scale has shape (1000000, 0), of more than 1,000 layers" in error
    assert error.count("\n") == 1


def test_damaged_numbers_are_refused(tmp_path):
    arrays = dict(np.load(released()))
    arrays["head/bias"] = arrays["head/bias"].copy()
    arrays["head/bias"][3] = np.nan
    write_npz(tmp_path / "f.npz", arrays)
    with pytest.raises(CheckpointError, match=r"head/bias"):
        load_pretrained(tmp_path / "f.npz")


def test_a_compact_transformer_needs_its_name(tmp_path):
    model = create_model("cct_2_3x2_32", num_classes=5)
    params = jax.jit(model.init)(jax.random.PRNGKey(1), jnp.zeros((1, 32, 32, 3)))["params"]
    write_npz(tmp_path / "cct.npz", jax.device_get(trees.flatten(params)))
    with pytest.raises(CheckpointError, match="model_name="):
        load_pretrained(tmp_path / "cct.npz")
    loaded = open_pretrained(tmp_path / "cct.npz", model_name="cct_2_3x2_32")
    assert loaded.preprocess.size == (32, 32)
    assert trees.difference(jax.device_get(loaded.variables["params"]), params) == []
