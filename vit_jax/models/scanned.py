"""The encoder as a loop over one block's program, whose size does not grow with the layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vit_jax import trees
from vit_jax.errors import ConfigError
from vit_jax.models.encoder import Encoder, Look, heads_of_layers, rates_of_layers


class ScannedEncoder(Encoder):
    """An `Encoder` whose blocks run as `jax.lax.scan`, with the same fields and parameters.

    Each block still has parameters of its own, `encoderblock_i`, which a call lays side by side
    (that copies them once), so that checkpoints are the same. Dropout draws other numbers than in
    an `Encoder`. Where layers are looked into, and for initial values, blocks run one by one.

    To be given as `encoder` of a `VisionTransformer`.
    """

    def _encode(
        self, x: Array, train: bool, head_mask: Array | None, look: Look, seen: dict[str, Any]
    ) -> Array:
        heads = heads_of_layers(self.num_heads, self.num_layers)
        self._check_alike(heads)
        if self.is_initializing() or look != Look():
            return super()._encode(x, train, head_mask, look, seen)
        block, own = self._block(0, heads[0], parent=None), self.variables["params"]
        layers = [own[f"encoderblock_{i}"] for i in range(self.num_layers)]
        _check_shapes(layers)
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
        rates = self.dropout_rate, self.attention_dropout_rate, block.drop_path_rate
        drops = train and max(rates) > 0
        keys = jax.random.split(self.make_rng("dropout"), self.num_layers) if drops else None

        def one(x: Array, layer: tuple[Any, Array | None, Array | None]) -> tuple[Any, None]:
            values, key, mask = layer
            rngs = {} if key is None else {"dropout": key}
            return block.apply({"params": values}, x, train, mask, False, rngs=rngs), None

        return jax.lax.scan(one, x, (params, keys, head_mask))[0]

    def _check_alike(self, heads: tuple[int, ...]) -> None:
        rates = rates_of_layers(self.drop_path_rate, self.num_layers)
        if len({*heads}) > 1 or len({*rates}) > 1:
            field = f"num_heads={heads}" if len({*heads}) > 1 else "drop_path_rate"
            raise ConfigError(
                f"blocks that run as a loop must be alike, and {field} makes them differ; leave it "
                "out, or scan_blocks (the field encoder=ScannedEncoder)"
            )


def _check_shapes(layers: Sequence[Any]) -> None:
    """Raises `ConfigError` unless all layers have arrays of the same shapes, pruned or not."""
    first, *others = ({path: x.shape for path, x in trees.flatten(one).items()} for one in layers)
    for i, shapes in enumerate(others, start=1):
        if shapes != first:
            path = next(p for p in {**first, **shapes} if first.get(p) != shapes.get(p))
            raise ConfigError(
                f"blocks that run as a loop must be alike, and {path} has shape {first.get(path)} "
                f"in encoderblock_0 and {shapes.get(path)} in encoderblock_{i}, as after pruning; "
                "apply such parameters with the field encoder=Encoder, without scan_blocks"
            )
