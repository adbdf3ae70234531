"""Optimisers and learning-rate schedules, from the config."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vit_jax import trees
from vit_jax.config import Config
from vit_jax.settings.training import second_decay

LINEAR_END = 1e-5  # where the official linear schedule ends

# By path: the blocks of a model, and what comes behind them. All else comes before.
_BLOCK = re.compile(r"(?:encoderblock|MixerBlock)_(\d+)/")
_BEHIND = re.compile(
    r"^(?:Transformer/encoder_norm|pre_head_layer_norm|pool_norm|pool|pre_logits|head|head_dist)/"
)


def make_schedule(
    total_steps: int, base_lr: float, decay_type: str, warmup_steps: int
) -> optax.Schedule:
    """Returns the official schedule: the learning rate as a function of the step.

    A warm-up from 0, linear in the step, multiplies the decay, which runs from `base_lr` at the end
    of the warm-up to 0 (cosine) or 1e-5 (linear) at `total_steps`, or stays (constant).
    """

    def schedule(step: Any) -> Float[Array, ""]:
        now = jnp.asarray(step, jnp.float32)
        progress = (now - warmup_steps) / max(1, total_steps - warmup_steps)
        progress = jnp.clip(progress, 0.0, 1.0)
        if decay_type == "cosine":
            rate = base_lr * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        elif decay_type == "linear":
            rate = LINEAR_END + (base_lr - LINEAR_END) * (1 - progress)
        else:
            rate = jnp.full_like(progress, base_lr)
        return rate * jnp.minimum(1.0, now / warmup_steps) if warmup_steps else rate

    return schedule


def make_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns clip by global norm → moments → decoupled weight decay → learning rate → its decay.

    'sgd' is the official fine-tuning rule: momentum `beta1`, held in `optim_dtype`. 'adamw' is
    Loshchilov and Hutter 2019, 'lion' Chen et al. 2023, 'lamb' You et al. 2020, see `trust_ratio`.
    """
    parts = [
        _moments(config),
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.scale_by_learning_rate(schedule),
    ]
    if config.grad_norm_clip:
        parts.insert(0, optax.clip_by_global_norm(config.grad_norm_clip))
    if config.optimizer == "lamb":
        parts.insert(-1, trust_ratio())
    if config.layer_decay not in (None, 1):
        # Last, and without a state, so that all others keep their places in checkpoints.
        parts.append(decay_by_layer(config.layer_decay))
    return optax.chain(*parts)


def trust_ratio() -> optax.GradientTransformation:
    """Returns the update of a kernel times the ratio of the norms of kernel and update (LAMB).

    All else has Adam's own step. The paper's algorithm 2 (arXiv:1904.00962) has the ratio for every
    parameter, but its code, as that which DeiT III is trained with, spares what does not decay: a
    bias that starts near 0 would hardly move.
    """
    rule = optax.scale_by_trust_ratio()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scaled, state = rule.update(updates, state, params)
        kernels = decay_mask(updates)
        return jax.tree.map(
            lambda is_kernel, s, u: s if is_kernel else u, kernels, scaled, updates
        ), state

    return optax.GradientTransformation(rule.init, update)


def decay_by_layer(decay: float) -> optax.GradientTransformation:
    """Returns the update times `decay` to the power of the blocks that come after a parameter.

    So each has a learning rate of its own, as in ELECTRA (arXiv:2003.10555, section 3.1) and BEiT
    (arXiv:2106.08254): the head's is the given one, that of block i of n is `decay` ** (n - i) of
    it, the embedding's `decay` ** (n + 1). As in BEiT's code weight decay is scaled with it.
    """

    def scaled(updates: trees.Tree, params: trees.Tree | None) -> trees.Tree:
        depths = depth_of_layers(updates)
        last = max(depths.values())
        return trees.map_with_path(lambda path, u: u * decay ** (last - depths[path]), updates)

    return optax.stateless(scaled)


def depth_of_layers(params: trees.Tree) -> dict[str, int]:
    """Returns {path: depth}: 0 before the blocks, i + 1 in block i of n, n + 1 behind them.

    Blocks are those of the encoder or of a Mixer, and only those in the tree are counted.
    """
    paths = [*trees.flatten(params)]
    blocks = {path: int(found[1]) + 1 for path in paths if (found := _BLOCK.search(path))}
    end = max(blocks.values(), default=0) + 1
    return {path: blocks.get(path, end if _BEHIND.search(path) else 0) for path in paths}


def decay_mask(params: trees.Tree) -> trees.Tree:
    """Returns whether weight decay applies, for each parameter: to kernels and to nothing else."""
    return trees.map_with_path(lambda path, _: path.split("/")[-1] == "kernel", params)


def _moments(config: Config) -> optax.GradientTransformation:
    dtype, lion = jnp.dtype(config.optim_dtype), config.optimizer == "lion"
    if config.optimizer == "sgd":
        return optax.trace(config.beta1, accumulator_dtype=dtype)
    rule = optax.scale_by_lion if lion else optax.scale_by_adam
    return rule(config.beta1, second_decay(config.optimizer, config.beta2), mu_dtype=dtype)
