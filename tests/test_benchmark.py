"""`vit_jax benchmark input`: what it counts is what happened; and wrong commands of all kinds."""

import json
import time

import numpy as np
import pytest

from tests import runs
from tests.data import pictures
from vit_jax.benchmark import input as benchmark
from vit_jax.benchmark.input import benchmark_input, print_input
from vit_jax.data.pipeline import Feed
from vit_jax.main import main

ROW, MASK = 4 + 4 + 4, 4  # label, index and epoch; evaluation has a mask for the epoch
PIXELS = 8 * 8 * 3


def _measure(seconds=0.05, **changes):
    return benchmark_input(runs.tiny_config(batch=16, batch_eval=16, **changes), seconds)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An image folder whose sizes differ, so that it is decoded while training."""
    return pictures.write(
        tmp_path_factory.mktemp("data") / "photos",
        {
            f"{split}/{'ab'[i % 2]}/{i:02}.png": pictures.noise(9 + i % 3, 12, seed=i)
            for split in ("train", "test")
            for i in range(24)
        },
    )


@pytest.fixture(scope="module")
def streamed(photos):
    return _measure(dataset=str(photos))


@pytest.fixture(scope="module")
def resident():
    return _measure()


def test_streamed_images_cross_as_uint8_and_nothing_else_of_size(streamed):
    assert not streamed.resident
    assert streamed.resident_bytes == 0
    assert streamed.bytes_to_device_per_image == PIXELS + ROW
    assert streamed.splits["test"].bytes_to_device_per_image == PIXELS + ROW - 4 + MASK
    assert set(streamed.stages) == {"read", "decode", "crop"}
    assert all(ms > 0 for ms in streamed.stages.values())


def test_images_on_the_device_are_sent_once(resident):
    assert resident.resident
    assert resident.resident_bytes == 1797 * PIXELS
    # And in each step their numbers: what is taken, which may be a stand-in, and for whom.
    assert resident.bytes_to_device_per_image == ROW + 4
    assert resident.stages == {}


def test_rate_and_wait_are_those_of_a_loader_of_known_speed(photos, monkeypatch):
    def slow(_, row, out):
        time.sleep(0.012)
        return {"image": np.zeros((8, 8, 3), np.uint8), "label": np.int32(row["index"] % 2)}

    monkeypatch.setattr(Feed, "_training_example", slow)
    speed = _measure(dataset=str(photos), seconds=0.5, decode_threads=2)
    expected = 2 / 0.012  # images a second of two threads
    assert 0.2 * expected < speed.images_per_second < 1.3 * expected
    assert speed.training_images_per_second < 1.3 * expected
    assert speed.splits["train"].images_per_second_per_core > speed.images_per_second
    assert speed.wait_fraction > 0.5


def test_json_holds_the_three_figures(resident, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(benchmark, "benchmark_input", lambda *args: asked.append(args) or resident)
    flags = ["--config.batch=40", "--json", "--seconds=0.5"]
    assert main(["benchmark", "input", "--config=digits", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    ((config, seconds),) = asked
    assert (config.batch, seconds) == (40, 0.5)
    assert found["images_per_second"] > 0
    assert found["bytes_to_device_per_image"] == ROW + 4
    assert 0 <= found["wait_fraction"] <= 1
    assert set(found["splits"]) == {"train", "test"}


def test_the_tables_name_splits_and_stages(streamed, resident, capsys):
    for speed, words in ((streamed, ("decode", "ms")), (resident, ("345,024 bytes", "once"))):
        print_input(speed)
        said = capsys.readouterr().out
        for word in ("train", "test", "images/s", "waiting for input", *words):
            assert word in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: WHAT"),
        (["inputs"], "invalid choice: 'inputs'"),
        (["input"], "required: --config"),
        (["input", "--config=digits", "--secs=2"], "no such flag of benchmark"),
        (["input", "--config=digits", "--seconds=0"], "--seconds=0: must be positive"),
        (["input", "--config=digits", "--config.batchs=2"], "did you mean 'batch'"),
        (["train", "--config=digits", "--seconds=-1"], "--seconds=-1: must be positive"),
        (["train", "--config=digits", "--batch=8"], "--batch=8: no such flag"),
        (["train", "--config=digits", "--config.batch=12"], "divisible by the 8 devices"),
        (["infer", "--config=digits", "--batch=12"], "--batch=12: must be divisible by the 8"),
        (["infer", "--config=digits", "--batch=0"], "--batch=0: must be at least 1"),
        (["infer", "--config=digits", "--config.batch_eval=9"], "config.batch_eval=9: must be"),
        (["attention", "--config=digits", "--kernel=cudn"], "did you mean 'cudnn'?"),
        (["attention", "--config=digits", "--kernel=cudnn"], "needs an NVIDIA GPU"),
        (["compile", "--config=digits", "--seconds=1"], "--seconds=1: no such flag"),
        (["save", "--config=digits", f"--workdir={__file__}"], "is a file; name a folder"),
    ],
)
def test_wrong_commands_are_one_line_and_exit_2(arguments, says, capsys):
    assert main(["benchmark", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
