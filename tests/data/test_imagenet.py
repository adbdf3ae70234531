"""The shipped names of ImageNet's classes, in the order that weights have them."""

import re

from tests.golden import REPOSITORY
from vit_jax.data.imagenet import class_names


def test_the_names_stand_in_the_order_of_the_logits():
    names = class_names()
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == (
        "tench, Tinca tinca",
        "tabby, tabby cat",
        "toilet tissue, toilet paper, bathroom tissue",
    )
    assert all(name == name.strip() != "" for name in names)
    assert len(set(names)) == 999
    assert [i for i, name in enumerate(names) if name == "crane"] == [134, 517]


def test_the_file_states_its_source_and_is_sorted_by_number():
    text = (REPOSITORY / "vit_jax/data/imagenet_classes.txt").read_text("utf-8")
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert "WordNet" in " ".join(comment)
    numbers = re.findall(r"^(n\d{8}) ", text, flags=re.MULTILINE)
    assert len(numbers) == 1000
    assert numbers == sorted(set(numbers))
