"""Several real processes: one result, one stop, one checkpoint that any layout goes on from."""

import signal
import time

import numpy as np
import pytest

from tests import jobs, runs
from vit_jax.config import to_json
from vit_jax.errors import ConfigError
from vit_jax.mesh import batch_sharding, local_rows
from vit_jax.records.loggers import Console
from vit_jax.runtime import processes
from vit_jax.train import train

STEPS = 200
EVERY = 2  # steps from evaluation to evaluation
COUNTED = ("test_accuracy", "test_top5_accuracy", "test_macro_f1")


def settings(**changes):
    long = {"total_steps": STEPS, "eval_every": EVERY, "checkpoint_every": STEPS}
    return runs.tiny_config(**{**long, **changes})


def wait_for_steps(place, count, job):
    """Returns once the run has logged so many steps."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if place.exists() and len(place.read_text().splitlines()) >= count:
            return
        if any(one.poll() is not None for one in job):
            break
        time.sleep(0.02)
    raise AssertionError(jobs.finish(job, 1))


def test_two_processes_stop_together_and_one_process_goes_on(tmp_path):
    """Two processes of two devices, split along `fsdp` and `tensor`, against this process alone.

    What both evaluate together is counted exactly: each example once, whoever has read it.
    """
    config = settings()
    mesh = ["--config.mesh.fsdp=2", "--config.mesh.tensor=2"]
    file, workdir = jobs.recipe(tmp_path, to_json(config)), tmp_path / "run"
    job = jobs.start(2, 2, ["train", f"--config={file}", f"--workdir={workdir}", *mesh])
    wait_for_steps(workdir / "metrics.jsonl", EVERY + 1, job)
    job[1].send_signal(signal.SIGTERM)  # the one that writes nothing
    for code, output in jobs.finish(job):
        assert code == 143, output
    (step,) = (int(one.name) for one in (workdir / "checkpoints").iterdir() if one.name.isdigit())
    assert EVERY < step < STEPS

    train(config, str(workdir), Console(quiet=True))
    train(config, str(tmp_path / "alone"), Console(quiet=True))
    both, alone = (runs.metrics_of(tmp_path / name) for name in ("run", "alone"))
    assert [line["step"] for line in both] == [line["step"] for line in alone]
    # Rounding differs with the layout, and Adam lets it grow: in the gradient's norm after 20 steps
    # to 3e-5 (jax 0.12), in a loss after 200 to more.
    for a, b in zip(both[:30], alone[:30], strict=True):
        if "grad_norm" in a:
            assert a.pop("grad_norm") == pytest.approx(b.pop("grad_norm"), rel=1e-4)
        assert a == pytest.approx(b, rel=1e-5)
    scored = [(a, b) for a, b in zip(both[:30], alone[:30], strict=True) if COUNTED[0] in a]
    assert scored[0][0]["step"] == EVERY  # by both processes
    for a, b in scored:
        assert [a[name] for name in COUNTED] == [b[name] for name in COUNTED]
    assert both[-1]["test_loss"] == pytest.approx(alone[-1]["test_loss"], rel=1e-3)


def test_processes_that_were_started_differently_are_refused(tmp_path):
    file = jobs.recipe(tmp_path, to_json(settings()))
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    others = [*command, "--config.base_lr=0.5"]
    for code, output in jobs.finish(jobs.start(2, 1, [command, others])):
        assert code == 2, output
        assert "settings: not the same in process 0 and in process 1" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("process", "says"), [(0, "not all of 2 processes came"), (1, "not answer")]
)
def test_the_others_are_waited_for_no_longer_than_said(process, says, tmp_path):
    file = jobs.recipe(tmp_path, to_json(settings()))
    job = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}", "--patience=1"]
    job += [f"--coordinator=127.0.0.1:{jobs.free_port()}", "--processes=2", f"--process={process}"]
    ((code, output),) = jobs.run(1, 1, job)
    assert code == 2, output
    assert says in output
    assert "longer --patience" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("change", [{"coordinator": "localhost"}, {"patience": 0}])
def test_an_address_has_a_port_and_patience_is_positive(change):
    given = {"coordinator": "localhost:1", "processes": 2, "process": 1, **change}
    with pytest.raises(ConfigError, match=f"--{next(iter(change))}="):
        processes.join(**given)


@pytest.mark.parametrize(
    ("coordinator", "count", "process"),
    [("localhost:1", None, None), (None, 2, 0), ("localhost:1", 2, 2), ("localhost:1", 2, -1)],
)
def test_a_place_in_a_job_is_whole_and_exists(coordinator, count, process):
    with pytest.raises(ConfigError, match="--process"):
        processes.join(coordinator, count, process)


def test_alone_nothing_is_asked():
    processes.check_agreed("this", "that")
    assert processes.largest(15) == 15
    assert processes.as_first(lambda: 7) == 7
    assert processes.as_first(lambda: None) is None
    assert processes.is_first()


def test_one_process_holds_every_row():
    rows = local_rows(batch_sharding(runs.one_device_mesh()), 6)
    np.testing.assert_array_equal(rows, np.arange(6))
