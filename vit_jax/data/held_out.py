"""Which examples of an undivided dataset are held out: a matter of their names alone."""

import hashlib

TEST_PERCENT = 20


def is_test(name: str) -> bool:
    """Returns whether an example is "test" rather than "train".

    About 20 % are, chosen by a hash, so that adding an example moves no other.

    Args:
      name: "CLASS/FILE" in a folder, the place in an array.
    """
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % 100 < TEST_PERCENT
