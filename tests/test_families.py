"""Every kind of model trains on the digits, is saved, and scores the same when it comes back."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests import runs
from vit_jax.evaluate import evaluate_run
from vit_jax.pretrained import load_run
from vit_jax.train import train

NO_VIT = {
    "hidden_size": None,
    "transformer": dict.fromkeys(runs.TINY["model"]["transformer"]),
}
MIXER = {"num_blocks": 1, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "named mixer": {**NO_VIT, **MIXER, "model_name": "Mixer-B_16"},
    "own mixer": {**NO_VIT, **MIXER},
    "conv stem": {"patches": {"size": None}, "stem": "conv"},
    "cct stem": {"patches": {"size": None}, "stem": "cct", "pool": "sequence"},
    "sequence pool": {"pool": "sequence"},
    "attention pool": {"pool": "attention"},
    "gated MLP": {"transformer": {"mlp": "gated"}},
    "all further fields": {
        "num_registers": 2,
        "pool": "mean",
        "pool_norm": True,
        "positions": {"kind": "sincos2d"},
        "transformer": {
            "num_layers": 2,
            "activation": "gelu_erf",
            "epsilon": 1e-5,
            "layer_scale": 0.1,
            "drop_path_rate": 0.2,
            "remat": "nothing_saveable",
            "attention": {"kernel": "xla", "merged_qkv": True, "qk_norm": True, "qkv_bias": False},
        },
    },
    "distillation token": {"pool": "distilled", "positions": {"class_row": False}},
    "blocks as a loop": {
        "scan_blocks": True,
        "transformer": {"num_layers": 2, "drop_path_by_layer": (0.1, 0.1)},
    },
    "pruned heads": {
        "transformer": {"num_layers": 2, "heads_by_layer": (1, 2), "attention": {"head_width": 8}},
    },
}


def _trained(family, workdir):
    config = runs.tiny_config(
        model=FAMILIES[family], total_steps=4, warmup_steps=0, eval_every=4, checkpoint_every=2
    )
    result = train(config, str(workdir))
    assert result.step == 4
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_and_comes_back(family, tmp_path):
    result = _trained(family, tmp_path)
    assert evaluate_run(load_run(tmp_path)).summary() == result.scores


def test_evaluation_reads_the_statistics_that_training_left(tmp_path):
    result = _trained("conv stem", tmp_path)
    trained = load_run(tmp_path)
    stats = trained.variables["batch_stats"]
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(stats))
    forgotten = {**trained.variables, "batch_stats": jax.tree.map(jnp.ones_like, stats)}
    scores = evaluate_run(dataclasses.replace(trained, variables=forgotten)).summary()
    assert result.scores is not None
    assert abs(scores["loss"] - result.scores["loss"]) > 1e-3
