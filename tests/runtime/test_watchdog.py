"""A process that hangs while its heartbeats go on: all processes of the job end, and say why."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests import jobs, runs
from vit_jax.config import to_json
from vit_jax.errors import ConfigError, LostProcessError
from vit_jax.runtime import ending, watchdog
from vit_jax.runtime.processes import join

STALL = 60  # seconds: beside other tests it takes as long to compile the first step


def _photos(folder):
    """Writes images of two sizes, which cannot stay on the device: each is read again and again."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for number in range(count):
            place = folder / split / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            size = 8 + number // 2 % 2
            pixels = generator.integers(0, 256, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.mark.slow  # a job of two processes, and a minute of silence
@pytest.mark.skipif(not os.environ.get("VIT_JAX_KILLS"), reason="set VIT_JAX_KILLS=1 to run it")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that never answers")
def test_a_disk_that_does_not_answer_ends_all_processes(tmp_path):
    photos = _photos(tmp_path / "photos")
    config = runs.tiny_config(
        dataset=str(photos), batch=8, total_steps=100_000, eval_every=100_000, checkpoint_every=20
    )
    file = jobs.recipe(tmp_path, to_json(config))
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    silent = photos / "train" / "class0" / "0.png"
    job = jobs.start(2, 1, [*command, f"--stall={STALL}"])
    timer = threading.Thread(target=_silence, args=(silent, tmp_path / "run", job))
    timer.start()
    for code, output in jobs.finish(job, 200):
        assert code == 5, output
        last = output.rstrip().splitlines()[-1]
        assert last.startswith(f"vit_jax: error: no step was taken for {STALL} s"), output
        assert "start all processes with the same command again" in last
        assert "Traceback" not in output
    timer.join()
    assert not silent.is_file()


def _silence(file, workdir, job):
    """Puts a pipe that nobody writes to into an image's place, once a checkpoint is there."""
    while not any((workdir / "checkpoints").glob("[0-9]*")):
        if any(one.poll() is not None for one in job):
            return
        time.sleep(0.1)
    file.unlink()
    os.mkfifo(file)


def test_nothing_ends_before_the_first_sign_of_life_nor_after_the_last(monkeypatch):
    ends = []
    monkeypatch.setattr(ending, "leave", lambda error: (ends.append(error), exit_thread()))

    def exit_thread():
        raise SystemExit

    watchdog.dismiss()
    with pytest.raises(SystemExit):
        _watch_for(watchdog, monkeypatch, [*[None] * 3, "alive", *[None] * 3])
    assert isinstance(ends[0], LostProcessError)
    with pytest.raises(StopIteration):
        _watch_for(watchdog, monkeypatch, ["alive", "dismiss", *[None] * 9])
    assert len(ends) == 1


def _watch_for(module, monkeypatch, happenings):
    """Runs the thread's own function on a clock that goes on a second at each of its looks."""
    now, left = [1000.0], iter(happenings)

    def sleep(_):
        now[0] += 1
        if happening := next(left):
            getattr(module, happening)()

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    try:
        module._watch(2)
    finally:
        module.dismiss()


def test_a_stall_is_a_second_at_least():
    with pytest.raises(ConfigError, match="--stall=0: must be at least 1"):
        join("127.0.0.1:1", 2, 0, stall=0)
