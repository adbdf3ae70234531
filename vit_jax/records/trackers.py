"""Where else a run's metrics go, beside metrics.jsonl: TensorBoard, Weights & Biases.

Each belongs to an extra that is imported when it is asked for. Training values are named
`train/…`, those of the test split `test/…`, what depends on the machine `timing/…`. The settings go
there once, when a run begins; resuming repeats no step.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from vit_jax.config import Config, flatten
from vit_jax.errors import ConfigError
from vit_jax.extras import imported
from vit_jax.workdir import Workdir

_TEST = "test_"


@runtime_checkable
class Tracker(Protocol):
    """What takes metrics in."""

    def write(
        self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None
    ) -> None:
        """Takes the values of a step, and what depends on the machine."""
        ...

    def close(self, *, failed: bool) -> None:
        """Sends what is left; `failed` says whether the run ended in an error."""
        ...


@contextlib.contextmanager
def opened(config: Config, place: Workdir, step: int, recorded: int) -> Iterator[list[Tracker]]:
    """Yields the trackers that `config.trackers` names, to be closed at the end.

    Only the process that writes for all may ask for them.

    Args:
      config: of the run.
      place: its workdir; all that is kept here lies in it.
      step: that the run starts from.
      recorded: the last one that it recorded before it was stopped; 0 at its beginning.

    Raises:
      ConfigError: an extra is not installed, or cannot start.
    """
    trackers: list[Tracker] = []
    failed = True
    try:
        trackers.extend(_KINDS[name](config, place, step, recorded) for name in config.trackers)
        yield trackers
        failed = False
    finally:
        for tracker in trackers:
            tracker.close(failed=failed)


class TensorBoard:
    """Event files in `tensorboard/`, written by tensorboardX, without TensorFlow."""

    def __init__(self, config: Config, place: Workdir, step: int, recorded: int):
        del recorded
        tensorboard = imported("tensorboardX", "tensorboard", "config.trackers='tensorboard'")
        folder = place.root / "tensorboard"
        begins = not any(folder.glob("events.out.*"))
        # TensorBoard drops what was written of later steps before, in files left as they are.
        purge = None if begins else step + 1
        # Files are named by the second of their making, which two quick starts may share.
        self._writer = tensorboard.SummaryWriter(
            str(folder), purge_step=purge, filename_suffix=f".after_{step}"
        )
        if begins:
            lines = (f"    {key} = {value!r}" for key, value in hyper_parameters(config).items())
            self._writer.add_text("settings", "\n".join(lines))

    def write(
        self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None
    ) -> None:
        """Adds a point to the curve of each value."""
        for name, value in named(values, timing).items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        """Writes what is left; a run that failed looks no different here."""
        del failed
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which resumes as the same run; `WANDB_MODE=offline` keeps it here.

    The project is `WANDB_PROJECT`, or vit_jax. Neither code, nor the command line, nor what the run
    prints is sent: they may hold what is nobody's business.
    """

    def __init__(self, config: Config, place: Workdir, step: int, recorded: int):
        wandb = imported("wandb", "wandb", "config.trackers='wandb'")
        del step
        identity = place.root / "wandb" / "run_id"
        begins = not identity.exists()
        self._sent = 0 if begins else recorded
        if begins:
            identity.parent.mkdir(parents=True, exist_ok=True)
            identity.write_text(secrets.token_hex(4))
        private = wandb.Settings(
            console="off", disable_code=True, disable_git=True, x_disable_meta=True
        )
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "vit_jax"),
                name=place.root.name,
                id=identity.read_text().strip(),
                resume="allow",
                dir=str(place.root),
                config=hyper_parameters(config) if begins else None,
                settings=private,
            )
        except Exception as error:  # of its own kinds: no login, no network
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"config.trackers='wandb' cannot start ({reason}); run `wandb login`, or set "
                "WANDB_MODE=offline"
            ) from error

    def write(
        self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None
    ) -> None:
        """Sends the values of a step, unless they were sent before the run was resumed."""
        if step > self._sent:
            self._run.log(named(values, timing), step=step)

    def close(self, *, failed: bool) -> None:
        """Waits until all is sent."""
        self._run.finish(exit_code=int(failed))


_KINDS: dict[str, Callable[[Config, Workdir, int, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def named(
    values: Mapping[str, float], timing: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Returns the values of a line of metrics.jsonl under the names that trackers show them by."""
    groups = {
        f"test/{name.removeprefix(_TEST)}" if name.startswith(_TEST) else f"train/{name}": value
        for name, value in values.items()
    }
    return groups | {f"timing/{name}": value for name, value in (timing or {}).items()}


def hyper_parameters(config: Config) -> dict[str, Any]:
    """Returns the settings that are not None, without what of a URL may be secret."""
    given = {key: value for key, value in flatten(config).items() if value is not None}
    return {
        key: _public(value) if isinstance(value, str) else value for key, value in given.items()
    }


def _public(text: str) -> str:
    """Takes the user, the password, the query and the fragment off a URL: any may be a token."""
    if not re.match(r"\w+://", text):
        return text
    return re.sub(r"(?<=://)[^/@]*@", "", re.split(r"[?#]", text, maxsplit=1)[0])
