"""Which examples of an undivided dataset are held out: a matter of their names alone."""

import hashlib
from collections.abc import Sequence

TEST_PERCENT = 20


def is_test(name: str) -> bool:
    """Returns whether an example is "test" rather than "train".

    About 20 % are, chosen by a hash, so that adding an example moves no other.

    Args:
      name: "CLASS/FILE" in a folder, the place in an array.
    """
    return _number(name) % 100 < TEST_PERCENT


def share_of_class(names: Sequence[str], split: str) -> list[str]:
    """Returns the examples of one class that are in "train" or "test", in their order.

    As `is_test` says; but of two examples or more, neither share stays empty: the one with the
    smallest hash is the test's, or the one with the largest the training's, where chance leaves
    none. Adding an example to such a class may move that one, and no other.
    """
    test = {name for name in names if is_test(name)}
    if len(names) > 1 and not test:
        test = {min(names, key=_number)}
    elif len(names) > 1 and len(test) == len(names):
        test.remove(max(names, key=_number))
    return [name for name in names if (name in test) == (split == "test")]


def _number(name: str) -> int:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
