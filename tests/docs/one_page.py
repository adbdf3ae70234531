"""Runs the blocks of one page in the current folder: `python -m tests.docs.one_page PAGE`.

A process for each page: with one device, and without the checks of shapes, as a reader has it. What
fails is told on standard error.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.docs import pages, sandbox
from tests.docs.running import Page, called
from tests.docs.shortening import made_beforehand, shortened


def run(page: Path, read: Callable[[], str], say: Callable[[str], object]) -> None:
    """Checks every block; what took how long is said."""
    text = page.read_text("utf-8")
    if "cifar10" in text:
        sandbox.write_cifar10(Path.cwd())
    for command in made_beforehand(text):
        assert called([*command.split(), *shortened(command.split())]) == 0, read()
    shared = Page(read)
    for block in pages.blocks(page):
        began = time.perf_counter()
        shared.check(block)
        say(f"{block.where}: {block.language}, {time.perf_counter() - began:.1f} s\n")


class Captured:
    """Sends both standard streams into a file, from which they can be read."""

    def __init__(self, path: Path):
        self._told = os.dup(2)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._at = 0
        for stream in (1, 2):
            os.dup2(self._file, stream)

    def read(self) -> str:
        """Returns what was printed since the last time."""
        sys.stdout.flush()
        sys.stderr.flush()
        end = os.lseek(self._file, 0, os.SEEK_END)
        new = os.pread(self._file, end - self._at, self._at)
        self._at = end
        return new.decode("utf-8", "replace")

    def say(self, text: str) -> None:
        """Writes to the stream that standard error was."""
        os.write(self._told, text.encode())


if __name__ == "__main__":
    captured = Captured(Path("printed.log"))
    try:
        run(Path(sys.argv[1]), captured.read, captured.say)
    except BaseException as error:  # whatever a page does: it is told, with what it had printed
        captured.say(f"{type(error).__name__}: {error}\n{captured.read()}")
        raise SystemExit(1) from error
