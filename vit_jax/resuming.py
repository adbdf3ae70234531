"""What a checkpoint and the command that goes on from it must have in common, and what need not."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vit_jax.errors import DataError
from vit_jax.provenance import changes

_SHOWN = 5


def check_data(
    dataset: str, saved: Mapping[str, Any], now: Mapping[str, Any], changed: Collection[str] = ()
) -> None:
    """Compares the data a checkpoint was trained on with the data at hand.

    Args:
      dataset: its name, for the message.
      saved, now: `class_names` and `train_examples` of both, and `train_listing`, the digest of
        names and labels, where it is known.
      changed: settings that may differ; with "dataset" among them there may be more or fewer
        images and other labels, but never other classes.

    Raises:
      DataError: they differ; it says in what.
    """
    if saved["class_names"] != now["class_names"]:
        raise DataError(
            f"{dataset}: has other classes than the run in this workdir was trained on "
            f"({_classes(saved['class_names'], now['class_names'])}); restore the data, or use "
            "another workdir"
        )
    if "dataset" in changed:
        return
    remedy = (
        "restore the data, use another workdir, or give --changed=dataset to go on with what is "
        "there now, in an order of its own"
    )
    old, new = saved["train_examples"], now["train_examples"]
    if old != new:
        raise DataError(
            f"{dataset}: has {new} images to train on, but the run in this workdir was trained on "
            f"{old}; {remedy}"
        )
    listings = saved.get("train_listing"), now.get("train_listing")
    if None not in listings and listings[0] != listings[1]:
        raise DataError(
            f"{dataset}: its {new} images have other names or other labels than those that the run "
            f"in this workdir was trained on; {remedy}"
        )


def provenance_line(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Returns a line on what made the checkpoint, where that was not this code on these devices."""
    found = changes(saved, now)
    if not found:
        return None
    return (
        f"saved under other conditions ({', '.join(found)}): the last bits may differ from now on"
    )


def _classes(old: Sequence[str], new: Sequence[str]) -> str:
    gone = [name for name in old if name not in set(new)]
    added = [name for name in new if name not in set(old)]
    parts = [
        f"{what}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for what, names in (("no longer there", gone), ("new", added))
        if names
    ]
    if not parts:
        place = next(i for i, pair in enumerate(zip(old, new, strict=True)) if len(set(pair)) > 1)
        parts = [f"in another order: class {place} was {old[place]} and is {new[place]}"]
    return "; ".join(parts)
