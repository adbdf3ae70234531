"""`vit_jax benchmark compile` and `save`: how a run starts, and how it is kept."""

import json
import time

import jax
import pytest

from tests import runs
from vit_jax import trees
from vit_jax.benchmark import compile as compiling
from vit_jax.benchmark import save, workload
from vit_jax.checkpoints.store import Store
from vit_jax.main import main
from vit_jax.models.summary import summarize


def _config(**changes):
    plain = {"rotate": 0.0, "shift": 0.0, "mixup": 0.0}  # compiled in half the time
    return runs.tiny_config(augment=plain, batch=16, batch_eval=16, num_classes=7, **changes)


@pytest.fixture(scope="module")
def compiled():
    return compiling.benchmark_compile(_config())


def test_both_programs_are_made_cold_and_then_warm(compiled):
    train, evaluation = compiled.programs["train"], compiled.programs["evaluation"]
    assert compiled.compile_seconds == pytest.approx(train.cold.total + evaluation.cold.total)
    assert compiled.warm_seconds == pytest.approx(train.warm.total + evaluation.warm.total)
    assert train.warm.compile < train.cold.compile
    assert train.operations > evaluation.operations > 10
    assert train.cached_bytes > evaluation.cached_bytes > 1000
    assert min(train.cold.trace, train.cold.lower, train.cold.compile) > 0


def test_what_devices_exchange_is_read_off_the_program(compiled):
    """Eight devices along `data` sum their gradients, and gather a few numbers of each image."""
    train, evaluation = (compiled.programs[name] for name in ("train", "evaluation"))
    params = summarize(workload.random_experiment(_config()).model, (8, 8)).params
    assert train.collective_bytes["sum along data"] == pytest.approx(4 * params, rel=0.05)
    assert 0 < sum(evaluation.collective_bytes.values()) < 64 * 16  # of 16 images


def _cache_folder():
    return getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 (made as JAX starts)


def test_what_the_user_set_of_the_cache_is_put_back(compiled):
    before = _cache_folder()
    assert before is not None
    assert compiled.what["model"]
    with compiling._empty_cache() as folder:
        assert _cache_folder() == str(folder)
    assert _cache_folder() == before
    assert not folder.exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    return save.benchmark_save(_config(), 0.01, str(folder / "new")), folder


def test_a_save_writes_the_state_and_leaves_nothing(saved):
    speed, folder = saved
    experiment = workload.random_experiment(_config())
    with Store(folder / "unused") as store:
        _, state = workload.start(experiment, store)
    assert speed.state_bytes == trees.nbytes(state)
    # Of a state as small as this the files are mostly headers, in a number that varies.
    assert 0.5 * speed.state_bytes < speed.disk_bytes < 20 * speed.state_bytes
    assert [*(folder / "new").iterdir()] == []


def test_saves_return_before_they_count(saved):
    speed, _ = saved
    assert speed.saves >= 1 + save.MIN_SAVES
    assert 0 < speed.stall.min <= speed.stall_seconds == speed.stall.median
    assert speed.stall.median < speed.commit.median
    assert speed.restore_seconds > 0
    between = _config().checkpoint_every * speed.step_seconds
    assert speed.stall_share == pytest.approx(speed.stall_seconds / (between + speed.stall_seconds))
    assert 0 < speed.stall_share < 1


def _unchecked(function):
    """The function itself, without the checks of the types it is given."""
    return getattr(function, "__wrapped__", function)


def test_a_stall_is_what_the_call_takes_and_no_more():
    class Slow:
        def save(self, *_):
            time.sleep(0.02)

        def wait(self):
            time.sleep(0.05)

    class Silent:
        def metadata(self):
            return {}

        def sealed(self, _):  # waits for the device, as the loop does
            time.sleep(0.02)
            return {}

    stalls, commits = _unchecked(save._save)(Slow(), Silent(), None, 0.01)
    assert len(stalls) == len(commits) == 1 + save.MIN_SAVES
    assert 0.04 <= min(stalls) < 0.08
    assert 0.09 <= min(commits) < 0.2


def test_memory_of_the_host_is_what_was_held_more_than_before():
    with save._resident_bytes() as held:
        if not held:
            pytest.skip("this system does not tell what a process holds")
        grown = b"x" * 50_000_000
        time.sleep(0.05)
    assert 45e6 < max(held) - held[0] < 80e6
    assert len(grown) == 50_000_000


def test_noise_takes_the_place_of_zeros_and_nothing_else_changes(tmp_path):
    experiment = workload.random_experiment(_config())
    with Store(tmp_path) as store:
        _, state = workload.start(experiment, store)
    forms = [(x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(state)]
    noisy = workload.noisy(state)
    assert [(x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(noisy)] == forms
    assert int(noisy.step) == 0
    assert all((x != 0).any() for x in jax.tree.leaves(noisy.opt_state) if x.size > 8)


@pytest.mark.parametrize(
    ("kind", "keys", "words"),
    [
        ("compile", ("compile_seconds", "programs"), ("train", "evaluation", "warm cache")),
        ("save", ("stall_seconds", "peak_memory_bytes"), ("stands still", "to restore", "on disk")),
    ],
)
def test_the_commands_print_json_and_tables(
    kind, keys, words, compiled, saved, monkeypatch, capsys
):
    monkeypatch.setattr(compiling, "benchmark_compile", lambda _: compiled)
    monkeypatch.setattr(save, "benchmark_save", lambda *_: saved[0])
    assert main(["benchmark", kind, "--config=digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(key in found for key in keys)
    assert main(["benchmark", kind, "--config=digits"]) == 0
    said = capsys.readouterr().out
    for word in words:
        assert word in said
