"""Models too large for one device, as recipes for `vit_jax benchmark plan`.

    vit_jax benchmark plan --config=benchmarks/large.py:h14 --devices=64 --config.mesh.fsdp=8
    vit_jax benchmark plan --config=benchmarks/large.py:22b --devices=1024 --device=tpu_v4

`h14` is ViT-H/14; `22b` has the sizes of ViT-22B (arXiv:2302.05442, table 1): no biases of query,
key and value, norms of queries and keys, attention pooling. Its blocks are serial here, and
parallel there: attention and MLP beside each other, which saves a sum along `tensor`.
"""

from typing import Any

SIZES = {
    "h14": {"model_name": "ViT-H_14", "transformer": {"dropout_rate": 0.0}},
    "22b": {
        "patches": {"size": (14, 14)},
        "hidden_size": 6144,
        "pool": "attention",
        "transformer": {
            "num_layers": 48,
            "num_heads": 48,
            "mlp_dim": 24576,
            "dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
            "remat": "nothing_saveable",
            "attention": {"qk_norm": True, "qkv_bias": False, "merged_qkv": True},
        },
    },
}
# Devices along (fsdp, tensor), and images a step.
LAYOUTS = {"h14": (8, 1, 4096), "22b": (8, 8, 8192)}


def get_config(name: str) -> dict[str, Any]:
    """Returns the settings of one of the sizes, with AdamW at 224 px."""
    fsdp, tensor, batch = LAYOUTS[name]
    return {
        "dataset": "imagenet2012",
        "num_classes": 1000,
        "pp": {"crop": 224},
        "model": SIZES[name],
        "optimizer": "adamw",
        "batch": batch,
        "epochs": 90,
        "mesh": {"fsdp": fsdp, "tensor": tensor},
        "dtype": "bfloat16",
    }
