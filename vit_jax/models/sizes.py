"""The sizes of Transformers and Mixers that have letters."""

from typing import Any

# Width, MLP width, heads, layers (arXiv:2010.11929, table 1; Ti and S: arXiv:2106.10270, table 2;
# M: arXiv:2204.07118, table 1; g and G: arXiv:2106.04560, table 2).
SIZES = {
    "testing": (10, 10, 2, 1),
    "Ti": (192, 768, 3, 12),
    "S": (384, 1536, 6, 12),
    "M": (512, 2048, 8, 12),
    "B": (768, 3072, 12, 12),
    "L": (1024, 4096, 16, 24),
    "H": (1280, 5120, 16, 32),
    "g": (1408, 6144, 16, 40),
    "G": (1664, 8192, 16, 48),
}
# Width, blocks, MLP width over tokens and over channels (arXiv:2105.01601, table 1).
MIXERS = {
    "S": (512, 8, 256, 2048),
    "B": (768, 12, 384, 3072),
    "L": (1024, 24, 512, 4096),
}


def vit_fields(size: str, patch: int, dropout: float = 0.0) -> dict[str, Any]:
    """Returns fields of a `VisionTransformer` of a size, on patches of so many pixels."""
    width, mlp_dim, num_heads, num_layers = SIZES[size]
    return {
        "patches": {"size": (patch, patch)},
        "hidden_size": width,
        "transformer": {
            "mlp_dim": mlp_dim,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "attention_dropout_rate": 0.0,
            "dropout_rate": dropout,
        },
        "classifier": "token",
        "representation_size": None,
    }


def mixer_fields(size: str, patch: int) -> dict[str, Any]:
    """Returns fields of an `MlpMixer` of a size, on patches of so many pixels."""
    width, blocks, tokens, channels = MIXERS[size]
    return {
        "patches": {"size": (patch, patch)},
        "hidden_dim": width,
        "num_blocks": blocks,
        "tokens_mlp_dim": tokens,
        "channels_mlp_dim": channels,
    }
