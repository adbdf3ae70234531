"""The Vision Transformer as a reader of the Flax manual would write it, and a plain step.

It knows nothing of vit_jax but the names of the parameters, so that both can start from the same.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

LEARNING_RATE, MOMENTUM, CLIP = 0.03, 0.9, 1.0  # the official fine-tuning


class Mlp(nn.Module):
    """Dense, GELU, Dense."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(nn.Dense(self.hidden, name="Dense_0")(x))
        return nn.Dense(x.shape[-1], name="Dense_1")(y)


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and beside a residual."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm(name="LayerNorm_0")(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads, name="MultiHeadDotProductAttention_0", deterministic=True
        )(y)
        y = nn.LayerNorm(name="LayerNorm_1")(x)
        return x + Mlp(self.hidden, name="MlpBlock_0")(y)


class Encoder(nn.Module):
    """Blocks, and a last LayerNorm."""

    layers: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Positions(name="posembed_input")(x)
        for i in range(self.layers):
            x = Block(self.heads, self.hidden, name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class Positions(nn.Module):
    """Adds one learned vector per token."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1, *x.shape[1:])
        return x + self.param("pos_embedding", nn.initializers.normal(0.02), shape)


class ViT(nn.Module):
    """Images b h w 3 to logits b k, by way of the class token."""

    classes: int
    patch: int
    width: int
    layers: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", name="embedding")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], axis=1)
        x = Encoder(self.layers, self.heads, self.hidden, name="Transformer")(x)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="head")(x[:, 0])


def optimizer(total_steps: int) -> optax.GradientTransformation:
    """Returns the official fine-tuning rule: clipped SGD, its momentum in bfloat16."""
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, total_steps)
    sgd = optax.sgd(schedule, momentum=MOMENTUM, accumulator_dtype=jnp.bfloat16)
    return optax.chain(optax.clip_by_global_norm(CLIP), sgd)


def clipped(name: str, rate: float) -> optax.GradientTransformation:
    """Returns "adamw" or "sgd" with momentum in float32, the gradient clipped to norm 1."""
    rules = {"adamw": optax.adamw(rate, weight_decay=0.0), "sgd": optax.sgd(rate, MOMENTUM)}
    return optax.chain(optax.clip_by_global_norm(CLIP), rules[name])


def plain_step(
    logits_of: Callable[[Any, jax.Array], jax.Array], rule: optax.GradientTransformation
) -> Callable[[Any, dict[str, jax.Array]], tuple[Any, dict[str, jax.Array]]]:
    """Returns a jitted training step on float32 images; its state is (parameters, momentum)."""

    def step(state: Any, batch: dict[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
        params, momentum = state

        def loss(params: Any) -> jax.Array:
            logits = logits_of(params, batch["image"])
            labels = batch["label"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, momentum = rule.update(grads, momentum, params)
        return (optax.apply_updates(params, updates), momentum), {"loss": value}

    return jax.jit(step, donate_argnums=0)
