"""LiT files in the released layout: recognised, loaded, resized; and what is refused."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import golden
from tests.models.running import QUICK
from vit_jax import pretrained, release, trees
from vit_jax.checkpoints import lit
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.inspecting import inspection
from vit_jax.models import LitModel
from vit_jax.models.inputs import example_inputs
from vit_jax.models.zoo import create_model, model_fields
from vit_jax.origin import known_name

CASES = ["lit_bert", "lit_bert_heads", "lit_text"]
# The heads of a BERT that is not 64 wide a head must be named.
HEADS: dict[str, Any] = {"text": {"config": {"num_attention_heads": 4}}}
NAMES = ["LiT-B16B", "LiT-B16B_2", "LiT-L16L", "LiT-L16S", "LiT-L16Ti"]
OLD = {
    "/LayerNorm_1/": "/LayerNorm_2/",
    "/MultiHeadDotProductAttention_0/": "/MultiHeadDotProductAttention_1/",
    "/MlpBlock_0/": "/MlpBlock_3/",
}


def write(path: Path, case: str, prefix: str = "", renamed: Any = None) -> Path:
    arrays = trees.flatten(golden.load_arrays(case)["params"])
    for old, new in (renamed or {}).items():
        arrays = {k.replace(old, new) if k.startswith("img/") else k: v for k, v in arrays.items()}
    np.savez(path, **{f"{prefix}{name}": array for name, array in arrays.items()})
    return path


def embeddings(model: Any, variables: Any, case: str) -> dict[str, Any]:
    given = golden.load_arrays(case)["input"]
    apply = jax.jit(model.apply, compiler_options=QUICK)
    found = apply(variables, given["images"], given["tokens"])
    return dict(zip(("zimg", "ztxt", "t"), found, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_released_file_gives_the_official_numbers(tmp_path, case):
    file = write(tmp_path / "weights.npz", case)
    fields = {} if case == "lit_text" else HEADS
    model, variables, preprocess = pretrained.load_pretrained(file, **fields)
    assert isinstance(model, LitModel)
    assert (preprocess.size, preprocess.rounding) == ((32, 32), "down")
    config = golden.load_json(case)["config"]
    assert model.pp["size"] == config["pp"]["size"]
    assert model.pp["tokenizer_name"] == config["pp"]["tokenizer_name"]
    found = embeddings(model, variables, case)
    golden.assert_close_to_largest(found, golden.load_arrays(case)["output"], 1e-5)


@pytest.mark.parametrize(
    ("prefix", "renamed"), [("params/", None), ("", OLD), ("opt/target/", OLD)]
)
def test_prefixes_and_older_numbers(tmp_path, prefix, renamed):
    plain = pretrained.open_origin(write(tmp_path / "plain.npz", "lit_text"), {})
    other = pretrained.open_origin(write(tmp_path / "b.npz", "lit_text", prefix, renamed), {})
    assert other.fields == plain.fields
    wanted, found = plain.load(), other.load()
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        np.testing.assert_array_equal(array, found[path])


@pytest.mark.parametrize("name", NAMES)
def test_released_sizes_are_told_from_shapes(name):
    shapes = golden.load_json("official_lit_models")[name]["params"]
    shapes = {path: tuple(shape) for path, shape in shapes.items()}
    fields = lit.fields_of(shapes, {}, name)
    assert known_name(fields) == name
    named = json.loads(json.dumps(model_fields(name)))
    assert json.loads(json.dumps(fields["pp"])) == named["pp"]
    assert json.loads(json.dumps(fields["text"])) == named["text"]
    assert isinstance(create_model(None, **fields), LitModel)


def test_another_resolution_and_dropout(tmp_path):
    file = write(tmp_path / "weights.npz", "lit_text")
    model, variables, preprocess = pretrained.load_pretrained(
        file, image_size=48, image={"transformer": {"dropout_rate": 0.1}}
    )
    assert preprocess.size == (48, 48)
    positions = variables["params"]["img"]["Transformer"]["posembed_input"]["pos_embedding"]
    assert positions.shape == (1, 37, 48)
    images = np.zeros((1, 48, 48, 3), np.float32)
    assert jax.jit(model.apply)(variables, images)[0].shape == (1, 48)
    assert isinstance(model, LitModel)
    assert model.image["transformer"]["dropout_rate"] == 0.1


def test_written_and_read_again(tmp_path):
    file = write(tmp_path / "weights.npz", "lit_bert_heads")
    release.convert(file, tmp_path / "out", "official", **HEADS)
    model, variables, preprocess = pretrained.load_pretrained(tmp_path / "out")  # heads known now
    assert preprocess.rounding == "down"
    found = embeddings(model, variables, "lit_bert_heads")
    golden.assert_close_to_largest(found, golden.load_arrays("lit_bert_heads")["output"], 1e-5)
    with pytest.raises(CheckpointError, match="a LiT model is written as 'official' alone"):
        release.convert(file, tmp_path / "timm", "timm", **HEADS)


def test_a_tower_with_running_statistics_is_written_and_read_again(tmp_path):
    encoder = {"num_layers": 1, "num_heads": 2, "mlp_dim": 24}
    model = LitModel(
        image={"stem": "conv", "patches": None, "hidden_size": 16, "transformer": encoder},
        text_model="text_transformer",
        text={"width": 16, "vocab_size": 50, **encoder},
        pp={"tokenizer_name": "sentencepiece", "size": 32, "max_len": 8},
        out_dim=(16, 16),
    )
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), *example_inputs(model, (32, 32)))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    preprocess = Preprocess((32, 32), rounding="down")
    release.save_pretrained(tmp_path / "out", model, variables, preprocess, format="official")
    release.convert(tmp_path / "out", tmp_path / "alone.npz", "official")
    for source in (tmp_path / "out", tmp_path / "alone.npz"):
        opened, read, prepared = pretrained.load_pretrained(source)
        assert trees.difference(read, variables) == []
        assert prepared == preprocess
        assert isinstance(opened, LitModel)
        assert opened.image["stem"] == "conv"


@pytest.mark.parametrize("patch", [(8, 2), (8, 4)])
def test_a_tower_of_oblong_patches_is_written_and_read_again(patch, tmp_path):
    encoder = {"num_layers": 1, "num_heads": 2, "mlp_dim": 24}
    model = LitModel(
        image={"patches": {"size": patch}, "hidden_size": 16, "transformer": encoder},
        text_model="text_transformer",
        text={"width": 16, "vocab_size": 50, **encoder},
        pp={"tokenizer_name": "sentencepiece", "size": 16, "max_len": 8},
        out_dim=(16, 16),
    )
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), *example_inputs(model, (16, 16)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), shapes)
    release.save_pretrained(tmp_path, model, variables, Preprocess((16, 16)), format="official")
    opened, read, _ = pretrained.load_pretrained(tmp_path)
    assert trees.difference(read, variables) == []
    assert isinstance(opened, LitModel)
    assert opened.image["positions"] == {"grid": (2, 16 // patch[1])}


def test_inspected(tmp_path):
    found = inspection.inspect(write(tmp_path / "weights.npz", "lit_text"))
    assert found.format == "lit"
    assert found.architecture.startswith("LiT of ViT of 2 blocks, 48 wide, patches of 8×8 and a ")
    assert found.num_classes is None
    assert found.image_size == (32, 32)


@pytest.mark.parametrize(
    ("changes", "fields", "kind", "message"),
    [
        ({}, {}, CheckpointError, "its BERT is 48 wide, which heads of 64 do not divide; name"),
        ({}, {**HEADS, "num_classes": 10}, ConfigError, "holds a LiT model, which has no classes"),
        ({"t": None}, HEADS, CheckpointError, "missing t"),
        ({"extra": np.zeros(3)}, HEADS, CheckpointError, "extra"),
        (
            {"txt/BertEncoder_0/embedder/embedders_position_ids/embedding": None},
            HEADS,
            CheckpointError,
            "has no txt/BertEncoder_0/embedder/embedders_position_ids/embedding of the shape",
        ),
        ({}, {**HEADS, "image_size": 4}, CheckpointError, ""),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, changes, fields, kind, message):
    arrays = trees.flatten(golden.load_arrays("lit_bert")["params"])
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises((kind, ValueError)) as caught:
        pretrained.load_pretrained(tmp_path / "weights.npz", **fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
