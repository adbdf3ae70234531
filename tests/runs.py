"""Small runs for tests: a tiny model on the digits, in memory or in a workdir."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh

from vit_jax import trees
from vit_jax.checkpoints.reading import Restored
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config, default_config, validate
from vit_jax.recipes import merge
from vit_jax.records.metrics_file import TIMING

TINY: dict[str, Any] = {
    "dataset": "digits",
    "pp": {"crop": 8},
    "augment": {"rotate": 10.0, "shift": 0.1, "mixup": 0.2},
    "model": {
        "patches": {"size": (4, 4)},
        "hidden_size": 16,
        "transformer": {
            "num_layers": 1,
            "num_heads": 2,
            "mlp_dim": 32,
            "dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
        },
    },
    "batch": 64,
    "optimizer": "adamw",
    "base_lr": 1e-3,
    "warmup_steps": 2,
    "total_steps": 30,
    "progress_every": 1,
    "eval_every": 10,
    "checkpoint_every": 5,
    "report": False,  # seconds for each run; the tests of pictures ask for it
}


def tiny_config(**changes: Any) -> Config:
    """Returns the checked settings of a run of 30 steps (an epoch of the digits has 22.5)."""
    config = merge(default_config(), TINY, "tests")
    config = merge(config, changes, "tests")
    validate(config)
    return config.lock()


def one_device_mesh() -> Mesh:
    """Returns a mesh of the first device alone."""
    return jax.make_mesh(
        (1, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3,
        devices=jax.devices()[:1],
    )  # fmt: skip


def training_batch(images: Any, labels: Any) -> dict[str, jax.Array]:
    """Returns a batch as the pipeline makes them, of images given."""
    count = len(labels)
    return {
        "image": jnp.asarray(images),
        "label": jnp.asarray(labels, jnp.int32),
        "epoch": jnp.zeros(count, jnp.int32),
        "index": jnp.arange(count, dtype=jnp.int32),
    }


def metrics_of(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl without what depends on the machine's speed."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != TIMING} for line in lines]


def last_saved(workdir: Path) -> Restored:
    """Returns the newest checkpoint of a run, which must have one."""
    with Store(workdir / "checkpoints") as store:
        restored = store.restore(None)
    assert restored is not None
    return restored


def differences(left: Path, right: Path, step: int) -> list[str]:
    """Compares the last states, of that step, bit for bit, and the metrics but for their timing."""
    saved = [last_saved(workdir) for workdir in (left, right)]
    assert [one.step for one in saved] == [step, step]
    lines = trees.difference(saved[0].state, saved[1].state)
    return lines if metrics_of(left) == metrics_of(right) else [*lines, "metrics.jsonl"]
