"""Position embeddings."""

from flax import linen as nn
from jaxtyping import Array, Float


class AddPositionEmbs(nn.Module):
    """Adds one learned vector per token.

    Parameter: `pos_embedding` (1, n, d) ~ N(0, 0.02), one row per token, the class token's first
    (arXiv:2010.11929, section 3.1; official initial values).
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns `x` plus the embeddings, in the dtype of `x`."""
        shape = (1, *x.shape[1:])
        embeddings = self.param("pos_embedding", nn.initializers.normal(stddev=0.02), shape)
        return x + embeddings.astype(x.dtype)
