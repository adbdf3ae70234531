"""The shipped names of ImageNet's classes, in the order that weights have them."""

import re

from tests.golden import REPOSITORY
from vit_jax.data.imagenet import class_names, in_words


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


def test_numbers_of_wordnet_are_shown_in_words(tmp_path):
    """Those of the folder first; two cranes keep their numbers."""
    words = tmp_path / "words.txt"
    given = ("n01440764", "n02012849", "n03126707", "n99999999")
    expected = ("tench", "crane (n02012849)", "crane (n03126707)", "n99999999")
    assert in_words(given, words) == expected
    words.write_text("n01440764\ta fish, of some kind\nn02012849\tbird\n")
    assert in_words(given, words) == ("a fish", "bird", "n03126707", "n99999999")
    assert in_words(("cat", "n1"), words) == ("cat", "n1")


def test_the_file_states_its_source_and_is_sorted_by_number():
    text = (REPOSITORY / "vit_jax/data/imagenet_classes.txt").read_text("utf-8")
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert "WordNet" in " ".join(comment)
    numbers = re.findall(r"^(n\d{8}) ", text, flags=re.MULTILINE)
    assert len(numbers) == 1000
    assert numbers == sorted(set(numbers))
