"""Every kind of model trains on the digits, is saved, and scores the same when it comes back."""

from typing import Any

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
    "gated MLP": {"transformer": {"mlp": "gated"}},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_and_comes_back(family, tmp_path):
    config = runs.tiny_config(
        model=FAMILIES[family], total_steps=4, warmup_steps=0, eval_every=4, checkpoint_every=2
    )
    result = train(config, str(tmp_path))
    assert result.step == 4
    assert evaluate_run(load_run(tmp_path))[0] == result.scores
