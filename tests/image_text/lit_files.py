"""Small LiT weights in the released layout, with the vocabulary they embed, and data for them."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.data import pictures
from tests.models.running import QUICK
from tests.text import vocabularies
from vit_jax import trees
from vit_jax.models.inputs import example_inputs
from vit_jax.models.zoo import create_model

CLASSES = ("cat", "dog", "photo")
SIDE = 8


def model(text_model: str = "bert", vocab_size: int = 17, **changes: Any) -> Any:
    """A LiT of 64 numbers a token: the heads of its BERT are told from that width."""
    bert = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_dim": 16,
        "vocab_size": vocab_size,
        "max_length": 16,
    }
    transformer = {"width": 16, "num_layers": 1, "mlp_dim": 8, "num_heads": 2}
    fields: dict[str, Any] = {
        "image": {
            "patches": {"size": (4, 4)},
            "hidden_size": 64,
            "transformer": {"num_layers": 1, "mlp_dim": 16, "num_heads": 2, "dropout_rate": 0.0},
        },
        "text_model": text_model,
        "text": {"config": bert},
        "pp": {"tokenizer_name": "bert", "size": SIDE, "max_len": 16},
        "out_dim": (None, 64),
        **changes,
    }
    if text_model == "text_transformer":
        fields["text"] = {**transformer, "vocab_size": vocab_size}
        fields["pp"] = {**fields["pp"], "tokenizer_name": "sentencepiece"}
    return create_model(None, **fields)


def random_variables(lit: Any, seed: int = 0) -> Any:
    """Parameters that are all random, far enough from zero for embeddings to differ."""
    init = jax.jit(lit.init, compiler_options=QUICK)
    inputs = (np.zeros(one.shape, one.dtype) for one in example_inputs(lit, (SIDE, SIDE)))
    rng = np.random.default_rng(seed)
    return {
        "params": jax.tree.map(
            lambda leaf: np.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), np.float32),
            jax.device_get(init(jax.random.key(0), *inputs)["params"]),
        )
    }


def write(folder: Path, text_model: str = "bert") -> Path:
    """Writes tiny.npz and, beside it, its vocabulary; returns the weights."""
    bert = text_model == "bert"
    vocabulary = vocabularies.bert() if bert else vocabularies.sentencepiece()
    size = 17
    if not bert:
        sentencepiece: Any = pytest.importorskip("sentencepiece", reason="the extra lit")
        size = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.content).vocab_size()
    lit = model(text_model, size)
    folder.mkdir(parents=True, exist_ok=True)
    params = trees.flatten(random_variables(lit)["params"])
    np.savez(folder / "tiny.npz", **params)
    (folder / f"tiny{Path(vocabulary.file_name).suffix}").write_bytes(vocabulary.content)
    return folder / "tiny.npz"


def image_folder(root: Path, per_class: int = 5) -> Path:
    """Writes root/test/CLASS/*.png of several sizes."""
    files: dict[str, bytes] = {}
    for c, name in enumerate(CLASSES):
        for i in range(per_class):
            noise = pictures.noise(8 + i, 9 + c, seed=10 * c + i)
            files[f"test/{name}/{i}.png"] = pictures.encoded(noise)
    pictures.write(root, files)
    return root
