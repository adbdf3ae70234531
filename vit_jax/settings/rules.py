"""What a setting is, and the rules that its values keep."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value must satisfy, as a function and in words."""

    holds: Callable[[Any], bool]
    text: str
    choices: tuple[str, ...] = ()

    def allows(self, value: Any) -> bool:
        """Returns whether a value keeps the rule; one that cannot be compared does not."""
        try:
            return self.holds(value)
        except TypeError:  # of a word where a number should be
            return False


def one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}", choices)


def any_of(*choices: str) -> Rule:
    text = f"must be a tuple of some of {', '.join(choices)}, each once, such as ({choices[0]!r},)"
    return Rule(
        lambda value: (
            isinstance(value, tuple | list)
            and set(value) <= set(choices)
            and len(set(value)) == len(value)
        ),
        text,
        choices,
    )


# A step whose rate is above it is not kept: the update might overflow the parameters.
LARGEST_RATE = 1e9

POSITIVE = Rule(lambda value: value > 0, "must be positive")
# Devices count steps and rows in 32 bits; a batch of the second size is 2.5 TB of photographs.
STEPS = Rule(lambda value: 0 < value < 2**31, "must be positive and below 2147483648")
ROWS = Rule(lambda value: 0 < value <= 2**24, "must be positive and at most 16777216")
NOT_NEGATIVE = Rule(lambda value: value >= 0, "must not be negative")
RATE = Rule(lambda value: 0 < value <= LARGEST_RATE, "must be positive and at most 1e9")
DECAY = Rule(lambda value: 0 <= value <= LARGEST_RATE, "must be from 0 to 1e9")
BELOW_ONE = Rule(lambda value: 0 <= value < 1, "must be at least 0 and below 1")
SHARE = Rule(lambda value: 0 <= value <= 1, "must be from 0 to 1")
SHARES = Rule(
    lambda value: all(0 <= share < 1 for share in value),
    "must be numbers that are at least 0 and below 1",
)
AREA = Rule(
    lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
    "must be (low, high) with 0 < low <= high <= 1",
)
LAYERS = Rule(
    lambda value: (
        len(value) == 2
        and isinstance(value[0], int)
        and 1 <= value[0] <= 10
        and 0 <= value[1] <= 30
    ),
    "must be (layers, magnitude): 1 to 10 layers of a magnitude from 0 to 30",
)
_BYTES = "red, green, blue (divide those of pixels from 0 to 255 by 255)"
COLOUR = Rule(
    lambda value: len(value) == 3 and all(0 <= x <= 1 for x in value),
    f"must be three numbers from 0 to 1: {_BYTES}",
)
SPREAD = Rule(
    lambda value: len(value) == 3 and all(0 < x <= 1 for x in value),
    f"must be three numbers above 0 and at most 1: {_BYTES}",
)
SEED = Rule(lambda value: 0 <= value < 2**32, "must be from 0 to 4294967295, which is 32 bits")
NAMES = Rule(
    lambda value: len(value) > 0 and all(isinstance(name, str) for name in value),
    "must be a tuple of one name or more, such as ('head',)",
)
PATCH = Rule(
    lambda value: len(value) == 2 and _are_counts(value),
    "must be two positive integers, down and across, such as (16, 16)",
)
COUNTS = Rule(
    lambda value: len(value) > 0 and _are_counts(value),
    "must be a tuple of positive integers, such as (3, 4, 6, 3)",
)
CONVOLUTIONS = Rule(
    lambda value: len(value) > 0 and all(len(pair) == 2 and _are_counts(pair) for pair in value),
    "must be a tuple of (channels, stride), positive integers, such as ((32, 2), (64, 2))",
)


def _are_counts(values: Any) -> bool:
    return all(type(value) is int and value > 0 for value in values)


class Key(NamedTuple):
    """A setting: its default (`None` reads "off" or "decided by the program") and its meaning."""

    default: Any
    meaning: str
    rule: Rule | None = None  # not asked of None
    kind: type | None = None  # the type, where the default is None
    is_path: bool = False  # may be a path or a URL, of which others see the last part alone
