"""What a benchmark found."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Figures:
    """A dataclass of figures, nested ones among them."""

    def to_json(self) -> str:
        """Returns all figures as one JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2)
