"""timm's names: the models that they mean, their published weights, and what is refused."""

import json
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax
from tests.checkpoints.serving import Served, serve
from vit_jax import timm_names
from vit_jax.checkpoints import catalogue, transfer
from vit_jax.checkpoints.arrays import write_safetensors
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.models import MlpMixer, VisionTransformer
from vit_jax.pretrained import open_pretrained

# Name, pixels, classes (0: no head) and parameters of `timm.create_model(name)`, timm 1.0.31.
FACTS = """
vit_tiny_patch16_224 224 1000 5717416
vit_tiny_patch16_384 384 1000 5790376
vit_small_patch8_224 224 0 21670272
vit_small_patch16_224 224 1000 22050664
vit_small_patch16_384 384 1000 22196584
vit_small_patch32_224 224 1000 22878952
vit_small_patch32_384 384 1000 22915432
vit_base_patch8_224 224 1000 86576872
vit_base_patch16_224 224 1000 86567656
vit_base_patch16_384 384 1000 86859496
vit_base_patch32_224 224 1000 88224232
vit_base_patch32_384 384 1000 88297192
vit_large_patch14_224 224 1000 304203752
vit_large_patch16_224 224 1000 304326632
vit_large_patch16_384 384 1000 304715752
vit_large_patch32_224 224 0 305510400
vit_large_patch32_384 384 1000 306632680
vit_huge_patch14_224 224 0 630764800
vit_giant_patch14_224 224 1000 1012611432
vit_gigantic_patch14_224 224 1000 1844440680
vit_small_patch14_dinov2 518 0 22056192
vit_base_patch14_dinov2 518 0 86579712
vit_large_patch14_dinov2 518 0 304367616
vit_small_patch14_reg4_dinov2 518 0 22057344
vit_base_patch14_reg4_dinov2 518 0 86582016
vit_large_patch14_reg4_dinov2 518 0 304370688
vit_tiny_r_s16_p8_224 224 1000 6337704
vit_tiny_r_s16_p8_384 384 1000 6355944
vit_small_r26_s32_224 224 1000 36431912
vit_small_r26_s32_384 384 1000 36468392
vit_base_r26_s32_224 224 1000 101383976
vit_base_r50_s16_224 224 0 97890112
vit_base_r50_s16_384 384 1000 98950952
vit_large_r50_s32_224 224 1000 328994856
vit_large_r50_s32_384 384 1000 329092136
deit_tiny_patch16_224 224 1000 5717416
deit_small_patch16_224 224 1000 22050664
deit_base_patch16_224 224 1000 86567656
deit_base_patch16_384 384 1000 86859496
deit_tiny_distilled_patch16_224 224 1000 5910800
deit_small_distilled_patch16_224 224 1000 22436432
deit_base_distilled_patch16_224 224 1000 87338192
deit_base_distilled_patch16_384 384 1000 87630032
deit3_small_patch16_224 224 1000 22059496
deit3_small_patch16_384 384 1000 22205416
deit3_medium_patch16_224 224 1000 38849512
deit3_base_patch16_224 224 1000 86585320
deit3_base_patch16_384 384 1000 86877160
deit3_large_patch16_224 224 1000 304374760
deit3_large_patch16_384 384 1000 304763880
deit3_huge_patch14_224 224 1000 632126440
mixer_s16_224 224 1000 18528264
mixer_s32_224 224 1000 19104624
mixer_b16_224 224 1000 59880472
mixer_b32_224 224 1000 60293428
mixer_l16_224 224 1000 208196168
mixer_l32_224 224 1000 206939264
"""
ROWS = [line.split() for line in FACTS.split("\n") if line]
# Weights: name, pixels, classes.
TAGGED = """
vit_tiny_patch16_224.augreg_in21k 224 21843
vit_base_patch16_224.augreg2_in21k_ft_in1k 224 1000
vit_base_patch16_224.orig_in21k 224 0
vit_base_patch16_224.bamboo 224 115217
vit_base_patch16_384.augreg_in1k 384 1000
vit_small_patch16_224.dino 224 0
vit_small_r26_s32_384.augreg_in21k_ft_in1k 384 1000
deit_tiny_patch16_224.fb_in1k 224 1000
deit3_small_patch16_224.fb_in22k_ft_in1k 224 1000
mixer_b16_224.goog_in21k 224 21843
vit_base_patch14_dinov2.lvd142m 518 0
""".split("\n")[1:-1]
OLD = {
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "vit_large_patch32_224_in21k": "vit_large_patch32_224.orig_in21k",
    "vit_small_r26_s32_224_in21k": "vit_small_r26_s32_224.augreg_in21k",
    "vit_base_patch16_224_sam": "vit_base_patch16_224.sam_in1k",
    "vit_base_patch8_224_dino": "vit_base_patch8_224.dino",
    "deit3_base_patch16_384_in21ft1k": "deit3_base_patch16_384.fb_in22k_ft_in1k",
    "mixer_b16_224_in21k": "mixer_b16_224.goog_in21k_ft_in1k",
    "timm/vit_base_patch16_224.mae": "vit_base_patch16_224.mae",
    "hf-hub:timm/vit_base_patch16_224.mae": "vit_base_patch16_224.mae",
    "hf_hub:timm/deit_tiny_patch16_224.fb_in1k": "deit_tiny_patch16_224.fb_in1k",
}


def parameters(model, pixels):
    images = jax.ShapeDtypeStruct((1, pixels, pixels, 3), "float32")
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("name", "pixels", "classes", "count"), ROWS, ids=[r[0] for r in ROWS])
def test_a_name_builds_the_model_that_timm_builds(name, pixels, classes, count):
    model = vit_jax.create_model(name)
    assert (model.num_classes or 0) == int(classes)
    assert parameters(model, int(pixels)) == int(count)
    assert vit_jax.create_model(name, 7).num_classes == 7
    if isinstance(model, VisionTransformer):
        assert model.transformer is not None
        assert model.transformer["activation"] == "gelu_erf"


def test_the_table_holds_every_name():
    names = {name for name in timm_names.names() if "." not in name}
    assert names == {row[0] for row in ROWS}


@pytest.mark.parametrize("row", TAGGED)
def test_a_tag_decides_the_classes(row):
    name, _, classes = row.split()
    assert (vit_jax.create_model(name).num_classes or 0) == int(classes)


@pytest.mark.parametrize(("old", "today"), OLD.items())
def test_old_names_and_prefixes_mean_what_timm_says(old, today):
    known = timm_names.parse(old)
    assert known is not None
    assert known.weights == today
    assert vit_jax.create_model(old) == vit_jax.create_model(today)


def test_a_tagged_model_is_that_of_its_weights_in_the_catalogue():
    checked = 0
    for entry in catalogue.list_published():
        if (known := timm_names.parse(entry.name)) is None or entry.architecture is None:
            continue
        ours = vit_jax.create_model(entry.name)
        official = vit_jax.create_model(entry.architecture, entry.num_classes)
        if isinstance(ours, MlpMixer):
            assert ours.clone(model_name=None) == official.clone(model_name=None)
        else:
            assert isinstance(official, VisionTransformer)
            said = {"activation": entry.activation, "dropout_rate": 0.0}
            official = official.clone(transformer={**(official.transformer or {}), **said})
            official = official.clone(num_classes=known.num_classes and entry.num_classes)
            assert ours.clone(model_name=None) == official.clone(model_name=None)
        checked += 1
    assert checked == 57


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("vit_base_patch16_224.augreg_in22k", "vit_base_patch16_224.augreg_in21k"),
        ("vit_base_patch16_225", "vit_base_patch16_224"),
        ("deit_small_patch16_384", "deit3_small_patch16_384"),
        ("vit_base_patch16_siglip_224", "vit_base_patch16_224"),
        ("vit_giant_patch14_dinov2", "vit_base_patch14_dinov2"),
        ("swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"),
    ],
)
def test_other_names_of_timm_are_refused_with_the_nearest(name, close):
    with pytest.raises(ConfigError) as caught:
        vit_jax.create_model(name)
    assert "\n" not in str(caught.value)
    assert f"model {name!r} is unknown; did you mean '{close}" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"unknown|no such file") as caught:
        vit_jax.load_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_name_can_be_the_model_of_a_run():
    from vit_jax.experiment import make_model
    from vit_jax.recipes import load_config

    flags = ["--config.model.model_name=deit3_small_patch16_224", "--config.pp.crop=32"]
    model: Any = make_model(load_config("digits", flags), 10)
    assert model.transformer["layer_scale"] == 1e-6
    assert model.positions == {"class_row": False}


# From here on: weights by name, from a stand-in for the hub.


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VIT_JAX_OFFLINE", raising=False)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    # What the stand-in lacks is not asked of the hub itself, again and again, for 23 seconds.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with serve() as web:
        monkeypatch.setenv("VIT_JAX_MIRROR", web.url)
        yield web


def put(hub, name, arrays, config, folder):
    """Lays weights into the hub as timm does: model.safetensors and config.json."""
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", arrays)
    (folder / "config.json").write_text(json.dumps(config))
    for file in folder.iterdir():
        hub.files[f"/timm/{name}/resolve/main/{file.name}"] = Served(file.read_bytes())
    shutil.rmtree(folder)


def config_of(architecture, pixels, classes, **further):
    """The config.json of timm's repositories, in its main lines."""
    mean_and_std = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    given = {"input_size": [3, pixels, pixels], "interpolation": "bicubic", "crop_pct": 1.0}
    return {
        "architecture": architecture,
        "num_classes": classes,
        "pretrained_cfg": {**given, **mean_and_std, "num_classes": classes, **further},
    }


def vit_arrays(classes, rows, scale=False):
    """One block, 64 wide, of patches of 16 pixels, as timm names its arrays."""
    shapes = {
        "cls_token": (1, 1, 64), "pos_embed": (1, rows, 64),
        "patch_embed.proj.weight": (64, 3, 16, 16), "patch_embed.proj.bias": (64,),
        "blocks.0.attn.qkv.weight": (192, 64), "blocks.0.attn.qkv.bias": (192,),
        "blocks.0.attn.proj.weight": (64, 64), "blocks.0.attn.proj.bias": (64,),
        "blocks.0.mlp.fc1.weight": (256, 64), "blocks.0.mlp.fc1.bias": (256,),
        "blocks.0.mlp.fc2.weight": (64, 256), "blocks.0.mlp.fc2.bias": (64,),
        "head.weight": (classes, 64), "head.bias": (classes,),
    }  # fmt: skip
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (64,), f"{norm}.bias": (64,)}
    if scale:
        shapes |= {"blocks.0.ls1.gamma": (64,), "blocks.0.ls2.gamma": (64,)}
    return random_arrays(shapes)


def random_arrays(shapes):
    random = np.random.default_rng(0)
    return {name: random.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("asked", "stored", "activation"),
    [
        ("deit_tiny_patch16_224.fb_in1k", "deit_tiny_patch16_224.fb_in1k", "gelu_erf"),
        ("deit_tiny_patch16_224", "deit_tiny_patch16_224.fb_in1k", "gelu_erf"),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "gelu_tanh"),
        ("vit_tiny_patch16_224_in21k", "vit_tiny_patch16_224.augreg_in21k", "gelu_tanh"),
        ("vit_base_patch16_224", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "gelu_erf"),
    ],
)
def test_weights_by_name_are_those_that_timm_takes(hub, tmp_path, asked, stored, activation):
    architecture = stored.split(".")[0]
    put(hub, stored, vit_arrays(5, 197), config_of(architecture, 224, 5), tmp_path / "hub")
    loaded = open_pretrained(asked)
    model: Any = loaded.model
    assert (model.num_classes, model.transformer["activation"]) == (5, activation)
    assert loaded.preprocess.size == (224, 224)
    assert loaded.preprocess == open_pretrained(stored).preprocess


def test_weights_that_the_catalogue_lacks_come_from_the_hub_as_their_config_says(hub, tmp_path):
    name = "deit3_small_patch16_224.fb_in1k"
    config = config_of("deit3_small_patch16_224", 224, 5, crop_pct=0.9)
    put(hub, name, vit_arrays(5, 196, scale=True), config, tmp_path / "hub")
    loaded = open_pretrained("deit3_small_patch16_224")
    model: Any = loaded.model
    assert "layer_scale" in model.transformer
    assert model.positions == {"class_row": False}
    assert (loaded.preprocess.size, loaded.preprocess.resize) == ((224, 224), 248)
    assert loaded.preprocess.mean == (0.485, 0.456, 0.406)


def test_names_without_weights_say_so(hub):
    with pytest.raises(CheckpointError, match="nobody has published such weights"):
        open_pretrained("vit_giant_patch14_224")


def test_a_mixer_of_timm_computes_what_its_arrays_say(hub, tmp_path):
    tokens, width = 196, 16
    shapes = {
        "stem.proj.weight": (width, 3, 16, 16), "stem.proj.bias": (width,),
        "blocks.0.mlp_tokens.fc1.weight": (8, tokens), "blocks.0.mlp_tokens.fc1.bias": (8,),
        "blocks.0.mlp_tokens.fc2.weight": (tokens, 8), "blocks.0.mlp_tokens.fc2.bias": (tokens,),
        "blocks.0.mlp_channels.fc1.weight": (24, width), "blocks.0.mlp_channels.fc1.bias": (24,),
        "blocks.0.mlp_channels.fc2.weight": (width, 24),
        "blocks.0.mlp_channels.fc2.bias": (width,),
        "head.weight": (5, width), "head.bias": (5,),
    }  # fmt: skip
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    arrays = random_arrays(shapes)
    name = "mixer_b16_224.goog_in21k_ft_in1k"
    config = config_of("mixer_b16_224", 224, 5)
    put(hub, name, arrays, config, tmp_path / "hub")
    loaded = open_pretrained("mixer_b16_224")
    images = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype("f4")
    logits = jax.jit(loaded.model.apply)(loaded.variables, jnp.asarray(images))
    wanted = mixer(arrays, images)
    np.testing.assert_allclose(logits, wanted, atol=1e-5 * np.abs(wanted).max())


def mixer(arrays, images):
    """A Mixer in NumPy, on arrays in PyTorch's layout, in double precision."""
    a = {name: array.astype("f8") for name, array in arrays.items()}

    def linear(name, x):
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * a[f"{name}.weight"] + a[f"{name}.bias"]

    def mlp(name, x):
        x = linear(f"{name}.fc1", x)
        x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return linear(f"{name}.fc2", x)

    b = len(images)
    x = images.reshape(b, 14, 16, 14, 16, 3).transpose(0, 1, 3, 5, 2, 4).reshape(b, 196, -1)
    x = x @ a["stem.proj.weight"].reshape(16, -1).T + a["stem.proj.bias"]
    y = norm("blocks.0.norm1", x).swapaxes(1, 2)
    x = x + mlp("blocks.0.mlp_tokens", y).swapaxes(1, 2)
    x = x + mlp("blocks.0.mlp_channels", norm("blocks.0.norm2", x))
    return linear("head", norm("norm", x).mean(1))
