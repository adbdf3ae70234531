"""A batch is fitted to a memory before the run, by what compiled steps say of themselves."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from tests import runs
from tests.choosing.setting import photographs
from tests.golden import REPOSITORY
from vit_jax.choosing import fitting
from vit_jax.config import changed
from vit_jax.errors import ConfigError
from vit_jax.experiment import build
from vit_jax.mesh import replicated
from vit_jax.runtime import memory

BATCH, FIXED, EACH = 32, 400.0, 100.0  # bytes of a made-up step, and of each image on a device


def config(folder, **changes):
    return runs.tiny_config(
        dataset=str(folder),
        augment={"rotate": 0.0, "shift": 0.0, "mixup": 0.0},
        **{"batch": BATCH, "pp": {"crop": 32}, **changes},
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return build(config(photographs(tmp_path_factory.mktemp("photos"))))


@pytest.fixture
def asked(monkeypatch):
    """Steps of made-up size; which were asked for. Blocks computed again take a tenth."""
    found = []

    def step_of(experiment, parts):
        found.append(parts)
        here = experiment.config.batch / parts / 8  # on each of eight devices
        each = EACH / 10 if experiment.config.model.transformer.remat else EACH
        one = jax.ShapeDtypeStruct((5,), jnp.float32, sharding=replicated(experiment.mesh))
        sums = 20 if parts > 1 else 0
        state = types.SimpleNamespace(params={"w": one})
        return fitting.Program(None, (state, None), int(FIXED + sums + each * here))

    monkeypatch.setattr(fitting, "step_of", step_of)
    return found


def free_for(needed):
    """Bytes that must be free for a step to take so many."""
    return int(needed / fitting.USABLE["cpu"]) + 1


@pytest.mark.parametrize(
    ("needed", "parts", "compiled"),
    [
        (800, 1, [1]),  # one program, and nothing divided
        (799, 2, [1, 4, 2]),  # two points give the line, and the third is what runs
        (620, 2, [1, 4, 2]),
        (619, 4, [1, 4]),  # an image on each device
        (520, 4, [1, 4]),
        (None, 1, [1]),  # not known what is free
    ],
)
def test_the_fewest_parts_that_fit(experiment, asked, needed, parts, compiled):
    free = free_for(needed) if needed else None
    found = fitting.fitted(experiment, free)
    assert (found.accum_steps, found.compiled, asked) == (parts, len(compiled), compiled)
    assert needed is None or found.program.bytes <= needed


def test_parts_that_are_asked_for_are_taken_or_refused(experiment, asked):
    assert fitting.fitted(experiment, free_for(800), parts=2).accum_steps == 2
    words = r"config\.batch=32 in config\.accum_steps=2 parts needs .* raise accum_steps$"
    with pytest.raises(ConfigError, match=words):
        fitting.fitted(experiment, free_for(500), parts=2)


def test_where_one_image_is_too_much_the_least_that_helps_is_named(experiment, asked):
    with pytest.raises(
        ConfigError,
        match=r"remat=nothing_saveable --config\.model\.scan_blocks=True would fit, with 0\.4 kB",
    ):
        fitting.fitted(experiment, free_for(450))
    with pytest.raises(ConfigError, match=r"one image of 32 px on each device needs .* --model"):
        fitting.fitted(experiment, free_for(100))


def test_a_step_is_asked_and_timed_without_a_run(experiment):
    program = fitting.step_of(experiment, 2)
    assert program.arguments[1]["image"].shape == (BATCH, 32, 32, 3)
    assert program.bytes > 4 * fitting.device_bytes(program.arguments[0].params)
    assert 0 < fitting.seconds_of(program) < 60


@pytest.mark.parametrize(
    ("seconds", "statistics", "parts", "timed"),
    [
        ({1: 1.0, 4: 0.8, 8: 0.7}, {}, 8, [1, 4, 8]),
        ({1: 1.0, 4: 0.8, 8: 0.79}, {}, 4, [1, 4, 8]),  # within the noise
        ({1: 1.0, 4: 0.97}, {}, 1, [1, 4]),  # and what is no faster is not divided further
        ({1: 1.0}, {"mean": 0}, 1, [1]),  # batch statistics are those of a part
    ],
)
def test_on_a_cpu_more_parts_are_taken_where_they_are_faster(
    experiment, monkeypatch, seconds, statistics, parts, timed
):
    asked = []

    def seconds_of(program):
        asked.append(program.call)
        return seconds[program.call]

    def step_of(experiment, parts):
        state = types.SimpleNamespace(batch_stats=statistics)
        return fitting.Program(parts, (state, None), 100)

    monkeypatch.setattr(fitting, "step_of", step_of)
    monkeypatch.setattr(fitting, "seconds_of", seconds_of)
    here = dataclasses.replace(experiment, mesh=runs.one_device_mesh())
    fit = fitting.fitted(here, None)
    found = fitting.timed(here, fit, divide=True)
    assert (found.accum_steps, found.program.call, asked) == (parts, parts, timed)
    assert (found.seconds, found.compiled) == (seconds[parts], len(timed))
    assert found.saved == pytest.approx(1 - seconds[parts] / seconds[1])
    as_asked = fitting.timed(here, fit, divide=False)
    assert (as_asked.accum_steps, as_asked.seconds, as_asked.saved) == (1, 1.0, 0.0)
    tight = dataclasses.replace(fit, free=100)  # what is asked for must fit as well
    assert fitting.timed(here, tight, divide=True).accum_steps == 1


def test_images_that_are_mixed_are_never_alone_in_a_part(experiment):
    mixed = changed(experiment.config, {"augment.mixup": 0.2, "batch": 16})
    one = runs.one_device_mesh()
    for settings, parts in ((experiment.config, 32), (mixed, 8)):
        here = dataclasses.replace(experiment, config=settings, mesh=one)
        assert fitting._parts(here)[-1] == parts


# Prints what a step is said to need, and by how much it makes the process grow.
GROWTH = """
import json, re, sys
from pathlib import Path
from vit_jax.choosing import fitting
from vit_jax.experiment import build
from tests.choosing.test_fitting import config

def kilobytes(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

wide = {"hidden_size": 192, "patches": {"size": (4, 4)}}
wide["transformer"] = {"num_layers": 2, "num_heads": 6, "mlp_dim": 768}
program = fitting.step_of(build(config(sys.argv[1], batch=16, pp={"crop": 64}, model=wide)), 1)
before = kilobytes("VmRSS")
fitting.seconds_of(program)
print(json.dumps([program.bytes, 1024 * (kilobytes("VmHWM") - before)]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/status")
def test_the_figure_is_what_a_process_then_grows_by(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(photographs(tmp_path))],
        cwd=REPOSITORY, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, grown = json.loads(done.stdout.splitlines()[-1])
    assert said > 2e8  # beside it all else is small
    assert 0.9 * said < grown < said / fitting.USABLE["cpu"]  # what is kept free suffices


def test_free_memory_is_that_of_the_host_or_of_its_container(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert memory.host_free_bytes(tmp_path) == 8000 * 1024
    write("proc/self/cgroup", "0::/job\n")
    write("sys/fs/cgroup/job/memory.max", "max\n")
    write("sys/fs/cgroup/job/memory.current", "100\n")
    assert memory.host_free_bytes(tmp_path) == 8000 * 1024
    write("sys/fs/cgroup/job/memory.max", "4000000\n")
    write("sys/fs/cgroup/job/memory.current", "1500000\n")
    write("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 500000\n")
    assert memory.host_free_bytes(tmp_path) == 3_000_000
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n")  # of the older version
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n")
    assert memory.host_free_bytes(tmp_path) == 1_000_000


def test_a_device_that_counts_has_what_its_limit_leaves(monkeypatch):
    @dataclasses.dataclass
    class Device:
        used: int
        platform: str = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": self.used}

    monkeypatch.setattr(memory.jax, "local_devices", lambda: [Device(100), Device(300)])
    assert memory.free_bytes() == 700
