"""What is exported: a function from images to logits, with its parameters inside."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from vit_jax import trees
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.models.zoo import Model

# The names that a program's one input and one output have, where the format gives them names.
IMAGES, LOGITS = "images", "logits"

_MOST_BYTES = 2**31 - 2**24  # of one message of the formats that hold a program in one


@dataclasses.dataclass(frozen=True, eq=False)  # its identity is its hash: it holds arrays
class Program:
    """A model that takes batches of any size, computed in float32 whatever it was trained in.

    Attributes:
      model: with dtype float32.
      variables: NumPy arrays: exporting needs no accelerator, and leaves nothing on one.
      preprocess: what the model expects of images.
      class_names: of the k classes; None where nobody named them.
      normalizes: whether images come as uint8 pixels of the model's size; otherwise they come
        normalised, as `preprocess` gives them.
    """

    model: Model
    variables: Mapping[str, trees.Tree]
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    normalizes: bool = True

    @property
    def dtype(self) -> Any:
        """Of the images it takes."""
        return jnp.uint8 if self.normalizes else jnp.float32

    def images(self, batch: Any) -> jax.ShapeDtypeStruct:
        """Returns what it takes: b h w 3, where the batch may be a symbol."""
        return jax.ShapeDtypeStruct((batch, *self.preprocess.size, 3), self.dtype)

    def apply(self, variables: Any, images: Any) -> Num[Array, "b ..."]:
        """Returns, for images b h w 3, logits b k; features b d of a model without a head."""
        images, variables = jax.tree.map(jnp.asarray, (images, variables))
        normal = self.preprocess.normalize(images) if self.normalizes else images
        return jnp.asarray(self.model.apply(variables, normal, train=False))

    def __call__(self, images: Any) -> Any:
        """Does what `apply` does, with its own variables, which become part of the program."""
        return self.apply(self.variables, images)

    def check_fits(self, format: str) -> None:
        """Raises `CheckpointError` if its parameters are too large for a format's one file."""
        size = sum(leaf.nbytes for leaf in trees.flatten(self.variables).values())
        if size > _MOST_BYTES:
            raise CheckpointError(
                f"the parameters take {size / 1e9:.1f} GB, and a {format} file holds up to 2 GB; "
                "export to savedmodel or safetensors"
            )


def make_program(trained: Any, *, normalizes: bool = True) -> Program:
    """Returns the program of what `open_classifier` opens."""
    return Program(
        trained.model.clone(dtype=jnp.float32),
        jax.device_get({name: tree for name, tree in trained.variables.items() if tree}),
        trained.preprocess,
        trained.class_names,
        normalizes,
    )


def random_images(program: Program, batch: int) -> Num[np.ndarray, "b h w 3"]:
    """Returns the same images each time: noise, as pixels or as numbers from -1 to 1."""
    shape = (batch, *program.preprocess.size, 3)
    pixels = np.random.default_rng(batch).integers(0, 256, shape, np.uint8)
    return pixels if program.normalizes else (pixels / 127.5 - 1).astype(np.float32)
