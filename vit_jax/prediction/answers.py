"""What a model says of batch after batch: probabilities, and the features that its head reads."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vit_jax.data.decoding import decode_pixels
from vit_jax.errors import CheckpointError, DataError
from vit_jax.mesh import batch_sharding, local_mesh, replicated
from vit_jax.prediction import inputs
from vit_jax.prediction.loading import Loaded, Pixels, load
from vit_jax.pretrained import Pretrained, Trained

# Images in a batch of one device: on a CPU more bring nothing; an accelerator wants to be filled.
_BATCH, _BATCH_OF_ACCELERATOR = 32, 128


class Answers(NamedTuple):
    """What is said of some images, in their order.

    Attributes:
      names, images: paths and URLs; the images as the model sees them, before normalisation.
      probabilities: of the classes; None for a model without a head.
      features: what the head reads, float32; None where nobody asked.
    """

    names: tuple[str, ...]
    images: UInt8[np.ndarray, "b h w 3"]
    probabilities: Float[np.ndarray, "b k"] | None
    features: Float[np.ndarray, "b ..."] | None


class UnreadableError(DataError):
    """Images that could not be read; all others were answered.

    Attributes:
      reasons: a line for each.
    """

    def __init__(self, reasons: Sequence[str], total: int):
        self.reasons = tuple(reasons)
        many = f"{len(reasons):,} of {total:,} images cannot be read: "
        super().__init__((many if len(reasons) > 1 else "") + "; ".join(reasons))


def answer(
    trained: Trained | Pretrained,
    names: Sequence[str],
    *,
    features: bool = False,
    batch: int | None = None,
    threads: int | None = None,
) -> Iterator[Answers]:
    """Yields answers for images, in order: decoded by threads, computed in batches of one shape.

    While a batch is computed, the next ones are read. Where there are more images than one device
    takes at once, all devices of the process share each batch.

    Args:
      trained: what `open_classifier` returns.
      names: paths and URLs, as `inputs.expand` returns them.
      features: whether to return what the head reads, too.
      batch: images in a batch; None for 32 on a CPU, 128 elsewhere, times the number of devices.
      threads: that decode; None for one a core.

    Raises:
      UnreadableError: at the end, if some images could not be read.
      CheckpointError: the model gives logits for each token, not for the image.
    """
    size, shares = _shared(len(names), batch, len(jax.local_devices()))
    ask, reasons = _compiled(trained, features, shares > 1), []
    waiting: tuple[Loaded, Any] | None = None
    threads = threads or os.cpu_count() or 1
    for loaded in load(names, _reader(trained), size, trained.preprocess.size, threads):
        reasons.extend(loaded.unreadable)
        asked = (loaded, ask(loaded.images)) if loaded.names else None
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = asked
    if waiting is not None:
        yield _fetched(*waiting)
    if reasons:
        raise UnreadableError(reasons, len(names))


Content = bytes | UInt8[np.ndarray, "h w c"]  # of an image file, or RGB pixels


def answerer(trained: Trained | Pretrained) -> Callable[[str, Content], Answers]:
    """Returns a function that does what `answer` does, for one image at a time; compiled once.

    It takes a name for the image, and the image itself instead of a path. It raises `DataError` for
    one that cannot be read, and `CheckpointError` as `answer` does.
    """
    ask = _compiled(trained, False)

    def one(name: str, content: Content) -> Answers:
        images = trained.preprocess.pixels(decode_pixels(content, name))[None]
        return _fetched(Loaded((name,), images, ()), ask(images))

    return one


def _reader(trained: Trained | Pretrained) -> Callable[[str], Pixels]:
    return lambda name: trained.preprocess.pixels(decode_pixels(inputs.read(name), name))


def _shared(count: int, batch: int | None, devices: int) -> tuple[int, int]:
    """Returns the images in a batch, and how many of so many devices share it."""
    usual = _BATCH if jax.default_backend() == "cpu" else _BATCH_OF_ACCELERATOR
    size = min(batch or usual * devices, count)
    shares = devices if size > usual else 1  # a program for several is slower to compile
    return -(-size // shares) * shares, shares


def _compiled(
    trained: Trained | Pretrained, features: bool, together: bool = False
) -> Callable[[UInt8[np.ndarray, "b h w 3"]], Any]:
    """Returns the program from pixels to (probabilities, features), None for what is not.

    Parameters are its arguments, so that it holds no copy of them. `together` the devices of this
    process share each batch, and each has the parameters.
    """
    model: Any = trained.model
    variables, put = trained.variables, jnp.asarray
    if together:
        mesh = local_mesh()
        variables = jax.device_put(variables, replicated(mesh))
        put = functools.partial(jax.device_put, device=batch_sharding(mesh))
    headless = model.clone(num_classes=None)

    @jax.jit
    def program(variables: Any, images: jax.Array) -> tuple[Any, Any]:
        normal = trained.preprocess.normalize(images)
        rows = found = None
        if model.num_classes:
            logits = model.apply(variables, normal, train=False)
            rows = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)
        if features:  # the compiler finds that both are the same but for the head
            found = jnp.asarray(headless.apply(variables, normal, train=False), jnp.float32)
        return rows, found

    return lambda images: program(variables, put(images))


def _fetched(loaded: Loaded, asked: tuple[Any, Any]) -> Answers:
    """Waits for the device, and cuts the places off that were filled up."""
    rows, features = (None if one is None else np.asarray(one) for one in asked)
    if rows is not None and rows.ndim != 2:
        raise CheckpointError("the model gives logits for each token, not for the image")
    count = len(loaded.names)
    return Answers(
        loaded.names,
        loaded.images[:count],
        None if rows is None else rows[:count],
        None if features is None else features[:count],
    )
