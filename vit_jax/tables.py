"""Tables for people, as wide as the terminal; no narrower than 100 columns, so no name is cut."""

from collections.abc import Sequence

import rich.box
import rich.console
import rich.table

WIDTH = 100


class _Console(rich.console.Console):
    """Leaves a closed pipe to the command line."""

    def on_broken_pipe(self) -> None:
        """Raises the error that it is called for, in place of an exit code of its own."""
        raise


def console() -> rich.console.Console:
    """Returns where tables are printed; names with brackets are no markup."""
    found = _Console(highlight=False, markup=False, emoji=False)
    found.width = max(found.width, WIDTH) if found.is_terminal else WIDTH
    return found


def table(title: str | None, left: Sequence[str], right: Sequence[str]) -> rich.table.Table:
    """Returns an empty table: columns of text, then columns of figures."""
    made = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for heading in left:
        made.add_column(heading, no_wrap=True)
    for heading in right:
        made.add_column(heading, justify="right", no_wrap=True)
    return made
