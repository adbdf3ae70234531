"""The names of ImageNet's classes, for weights that bring none; their source is in the file."""

import functools
import importlib.resources


@functools.cache
def class_names() -> tuple[str, ...]:
    """Returns the words of the 1,000 classes of ImageNet-1k, in the order of the logits.

    That is the order of their WordNet numbers, which all published weights share. Two classes, a
    bird and a machine, are both named "crane".
    """
    text = (
        importlib.resources.files("vit_jax.data")
        .joinpath("imagenet_classes.txt")
        .read_text("utf-8")
    )
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(line.partition(" ")[2] for line in lines)
