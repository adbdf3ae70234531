"""Pictures that belong together, drawn one by one: one that fails is said, and stops no other."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from vit_jax.pictures.figure import CannotDrawError, in_one_line

logger = logging.getLogger("vit_jax")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Attributes:
      file: its name in the album's folder.
      heading: what it shows.
      says: how to read it.
    """

    file: str
    heading: str
    says: str


class Album:
    """The pictures in one folder.

    Args:
      folder: made when the first picture is drawn.

    Attributes:
      pictures: those drawn, in order.
      missing: (heading, reason) of those that were not.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.pictures: list[Picture] = []
        self.missing: list[tuple[str, str]] = []

    def draw(self, file: str, heading: str, says: str, how: Callable[[Path], None]) -> None:
        """Draws a picture with `how(path)`; where that cannot be, says why in one line.

        A picture of the same name that an earlier run drew goes first: none may show what is past.
        """
        path = self.folder / file
        try:
            path.unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            how(path)
        except CannotDrawError as error:
            self.leave_out(heading, str(error))
        except Exception as error:  # a picture must never fail the run that it shows
            reason = in_one_line(error)
            self.leave_out(heading, reason)
            logger.warning("the picture %s could not be drawn: %s", file, reason)
        else:
            self.pictures.append(Picture(file, heading, says))

    def leave_out(self, heading: str, reason: str) -> None:
        """Notes that a picture is not there, and why."""
        self.missing.append((heading, reason))
