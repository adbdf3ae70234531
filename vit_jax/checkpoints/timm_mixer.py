"""The layout of timm's MLP-Mixers: names, for reading alone.

Read from timm 1.0.31 (models/mlp_mixer.py). timm computes the erf form of GELU, and the Mixer here
the tanh form, by which the weights that Google released were trained.
"""

from collections.abc import Collection

from vit_jax.checkpoints.mapping import Table
from vit_jax.checkpoints.torch_rows import linear, norm
from vit_jax.checkpoints.transforms import CONV

NAME = "timm"


def recognises(names: Collection[str]) -> bool:
    """Whether arrays of these names are of a Mixer of timm."""
    return "blocks.0.mlp_tokens.fc1.weight" in names


def table() -> Table:
    """Returns the rows."""
    block, ours = "blocks.{i}", "MixerBlock_{i}"
    return [
        *linear("stem.proj", "stem", CONV),
        *norm(f"{block}.norm1", f"{ours}/LayerNorm_0"),
        *linear(f"{block}.mlp_tokens.fc1", f"{ours}/token_mixing/Dense_0"),
        *linear(f"{block}.mlp_tokens.fc2", f"{ours}/token_mixing/Dense_1"),
        *norm(f"{block}.norm2", f"{ours}/LayerNorm_1"),
        *linear(f"{block}.mlp_channels.fc1", f"{ours}/channel_mixing/Dense_0"),
        *linear(f"{block}.mlp_channels.fc2", f"{ours}/channel_mixing/Dense_1"),
        *norm("norm", "pre_head_layer_norm"),
        *linear("head", "head"),
    ]
