"""A batch is fitted to a memory before the run, by what compiled steps say of themselves."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from tests import runs
from tests.choosing.setting import photographs
from tests.golden import REPOSITORY
from vit_jax import memory
from vit_jax.choosing import fitting
from vit_jax.errors import ConfigError
from vit_jax.experiment import build

BATCH = 32


def config(folder, **changes):
    return runs.tiny_config(
        dataset=str(folder),
        pp={"crop": 64},
        augment={"rotate": 0.0, "shift": 0.0, "mixup": 0.0, "crop_area": (0.5, 1.0)},
        **{"batch": BATCH, **changes},
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return build(config(photographs(tmp_path_factory.mktemp("photos"))))


@pytest.fixture(scope="module")
def whole(experiment):
    return fitting.step_of(experiment, 1)


def free_for(needed):
    """Bytes that must be free for a step to take so many."""
    return int(needed / fitting.USABLE["cpu"]) + 1


def test_where_all_fits_one_program_is_compiled_and_nothing_divided(experiment, whole):
    found = fitting.fitted(experiment, free_for(whole.bytes))
    assert (found.accum_steps, found.compiled) == (1, 1)
    assert found.program.bytes == whole.bytes


def test_a_smaller_memory_gives_smaller_parts_of_the_same_batch(experiment, whole):
    found = fitting.fitted(experiment, free_for(0.7 * whole.bytes))
    assert found.accum_steps == 2
    assert found.program.bytes <= 0.7 * whole.bytes
    assert found.compiled <= 3
    assert found.program.arguments[1]["image"].shape == (BATCH, 64, 64, 3)


def test_where_not_known_what_is_free_nothing_is_divided(experiment):
    assert fitting.fitted(experiment, None).accum_steps == 1


def test_parts_that_are_asked_for_are_taken_or_refused(experiment, whole):
    assert fitting.fitted(experiment, free_for(whole.bytes), parts=2).accum_steps == 2
    words = r"config\.batch=32 in config\.accum_steps=2 parts needs .* raise accum_steps$"
    with pytest.raises(ConfigError, match=words):
        fitting.fitted(experiment, free_for(0.1 * whole.bytes), parts=2)


def test_where_one_image_is_too_much_the_least_that_helps_is_named(experiment):
    one = fitting.step_of(experiment, BATCH // 8)
    with pytest.raises(ConfigError, match=r"one image of 64 px on each device needs .* --model"):
        fitting.fitted(experiment, free_for(one.bytes / 1000))


def test_blocks_computed_again_are_named_where_they_fit(tmp_path):
    deep = {"transformer": {"num_layers": 3, "mlp_dim": 256}}
    experiment = build(config(photographs(tmp_path), batch=8, model=deep))
    again = {
        "model": {"transformer": {"num_layers": 3, "mlp_dim": 256, "remat": "nothing_saveable"}}
    }
    less = fitting.step_of(build(config(tmp_path, batch=8, **again)), 1).bytes
    assert less < fitting.step_of(experiment, 1).bytes
    with pytest.raises(ConfigError, match=r"--config\.model\.transformer\.remat=nothing_saveable"):
        fitting.fitted(experiment, free_for(less))


def test_a_step_is_timed_without_a_run(whole):
    assert 0 < fitting.seconds_of(whole) < 60


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
program = fitting.step_of(build(config(sys.argv[1], batch=64, model=wide)), 1)
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
    assert said > 3e8  # beside it all else is small
    assert grown == pytest.approx(said, rel=0.25)


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
