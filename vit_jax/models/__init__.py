"""The models: linen modules that know no data, no checkpoint and no training."""

from vit_jax.models.attention import MultiHeadDotProductAttention
from vit_jax.models.batchnorm import BatchNorm
from vit_jax.models.compact import ConvTokenizer
from vit_jax.models.encoder import Encoder, Encoder1DBlock
from vit_jax.models.lit import LitModel
from vit_jax.models.mixer import MixerBlock, MlpMixer
from vit_jax.models.mlp import GatedMLP, MlpBlock
from vit_jax.models.pooling import MAPHead, SequencePool
from vit_jax.models.posemb import AddPositionEmbs, Positions
from vit_jax.models.pruning import fit_heads, prune_heads
from vit_jax.models.resnet import ResidualUnit, ResNet, ResNetStage, StdConv
from vit_jax.models.scanned import ScannedEncoder
from vit_jax.models.stems import ConvStem, PatchEmbed
from vit_jax.models.vit import VisionTransformer
from vit_jax.models.zoo import create_model, list_models

__all__ = [
    "AddPositionEmbs",
    "BatchNorm",
    "ConvStem",
    "ConvTokenizer",
    "Encoder",
    "Encoder1DBlock",
    "GatedMLP",
    "LitModel",
    "MAPHead",
    "MixerBlock",
    "MlpBlock",
    "MlpMixer",
    "MultiHeadDotProductAttention",
    "PatchEmbed",
    "Positions",
    "ResNet",
    "ResNetStage",
    "ResidualUnit",
    "ScannedEncoder",
    "SequencePool",
    "StdConv",
    "VisionTransformer",
    "create_model",
    "fit_heads",
    "list_models",
    "prune_heads",
]
