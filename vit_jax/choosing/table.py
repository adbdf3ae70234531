"""What was chosen, as a table for people."""

from vit_jax.choosing.choose import Chosen
from vit_jax.tables import console, table

# Explained in the recipe, and of no weight.
_LEFT_OUT = (
    "dataset",
    "pp.train",
    "decay_type",
    "checkpoint_every",
    "batch_eval",
    "augment.flip",
    "report",
)
_WIDEST = 20


def print_chosen(chosen: Chosen) -> None:
    """Prints each setting with its value and the reason for it, and how long the run will take."""
    data = next(choice for choice in chosen.choices if choice.setting == "dataset")
    rows = table(f"vit_jax finetune {data.value}", ["setting", "value"], [])
    rows.add_column("why", overflow="fold")
    count, _, what = data.why.partition(" ")
    rows.add_row("images", count, what)
    for choice in chosen.choices:
        if choice.setting not in _LEFT_OUT:
            rows.add_row(choice.setting, _shown(choice.value), choice.why)
    rows.add_row("time", duration(chosen.minutes), chosen.timed)
    console().print(rows)


def duration(minutes: float | int) -> str:
    """Returns a time as people say it: "40 s", "9 minutes", "2.5 hours"."""
    if minutes < 1:
        return f"{max(60 * minutes, 1):.0f} s"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _WIDEST else f"…{text[-_WIDEST + 1 :]}"
