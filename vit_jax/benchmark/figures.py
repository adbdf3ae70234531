"""What a benchmark found."""

import dataclasses
import json

from vit_jax.provenance import versions


@dataclasses.dataclass(frozen=True)
class Figures:
    """A dataclass of figures, nested ones among them."""

    def to_json(self) -> str:
        """Returns all figures as one JSON object, with the versions that they are of."""
        return json.dumps({**dataclasses.asdict(self), "versions": versions()}, indent=2)
