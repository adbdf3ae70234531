"""A run that is killed at any moment, again and again, ends with the bits of one that was not."""

import os
from pathlib import Path
from random import Random

import pytest

from tests.faults import kills

# Starts of whole processes: two that end, and three that are killed.
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("VIT_JAX_KILLS", "0"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings, and a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    ended = kills.start(kills.recipe(folder), folder / "alone")
    assert (ended.killed, ended.saved) == (False, kills.STEPS), ended.output
    return folder


def test_a_run_killed_three_times_ends_with_the_same_bits(alone: Path, tmp_path: Path) -> None:
    """In the digests of its fourth save, at a moment, and in the middle of a deletion."""
    moment = f"moment:{Random(7).uniform(0.1, 0.8):.3f}"
    for fault in ("sealing:70", moment, "deletion:2"):
        begun = kills.start(alone / "settings.json", tmp_path, fault)
        assert begun.killed, begun.output
        assert begun.lost == 0, begun
        assert begun.saved is not None
        assert begun.saved < kills.STEPS
    ended = kills.start(alone / "settings.json", tmp_path)
    assert ended.resumed == ended.newest == begun.saved
    assert kills.differences(alone / "alone", tmp_path) == []
    kept = sorted(
        int(one.name) for one in (tmp_path / "checkpoints").iterdir() if one.name != ".staging"
    )
    assert kept == [20, 40, 58, 60]
    assert not any((tmp_path / "checkpoints" / ".staging").iterdir())


@pytest.mark.skipif(not KILLS, reason="a quarter of an hour: set VIT_JAX_KILLS=100 to run it")
def test_many_kills(tmp_path: Path) -> None:
    starts, differing = kills.inject(tmp_path, KILLS, Random(KILLS))
    assert sum(start.killed for start in starts) == KILLS
    assert [start for start in starts if start.lost] == []
    assert [lines for lines in differing if lines] == []
