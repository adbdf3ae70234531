"""The benchmarks beside other implementations: which sides there are, and what is kept of them."""

import argparse
import importlib
import json
import os
import sys
import time

import jax
import pytest

from tests.golden import REPOSITORY
from vit_jax.benchmark import workload

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
machine = importlib.import_module("machine")
sides = importlib.import_module("sides")
rounds = importlib.import_module("rounds")
throughput = importlib.import_module("throughput")
accelerator = importlib.import_module("accelerator")

# In the place of the official file, whose constructor it has.
STAND_IN = """
from vit_jax import models_resnet
from vit_jax.models.vit import VisionTransformer
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("models_vit", "models_resnet"):
        monkeypatch.setitem(sys.modules, f"vit_jax.{name}", None)  # put back afterwards
    (tmp_path / "vit_jax").mkdir()
    (tmp_path / "vit_jax" / "models_resnet.py").write_text("")
    (tmp_path / "vit_jax" / "models_vit.py").write_text(STAND_IN)
    return tmp_path


def _options(**changes):
    asked = {"model": "testing", "size": 32, "batch": 8, "dtype": "float32", "mode": "train",
             "optimizer": "adamw", "steps": 1, "threads": 1, "device": "cpu", "peer": None,
             "ways": None, "backends": None, "keep": None, "json": True}  # fmt: skip
    return argparse.Namespace(**{**asked, **changes})


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_official_model_is_a_side_with_as_many_parameters_as_ours(mode, checkout):
    options = _options(mode=mode, peer=str(checkout))
    found = throughput.measure(sides.officially, options)
    ours = throughput.measure(sides.ours, options)
    assert found["parameters"] == ours["parameters"]
    assert len(found["steps"]) == 1
    throughput.check_same({"vit_jax": [ours], "official": [found]})


@pytest.mark.parametrize("model", sorted({*accelerator.CARD.models, "ViT-H_14"}))
def test_neither_we_nor_the_official_model_drop_what_pytorch_keeps(model, monkeypatch):
    """The official fields of L/16 and H/14 do: their steps would be other work."""
    fields = []

    def stop(checkout, classes, given):
        fields.append(given["transformer"])
        raise KeyboardInterrupt

    monkeypatch.setattr(sides.official, "load_model", stop)
    options = _options(model=model, size=224, peer="checkout")
    with pytest.raises(KeyboardInterrupt):
        sides.officially(options)
    own = workload.random_experiment(sides.configured(options)).model.transformer or {}
    for encoder in (own, *fields):
        assert encoder["dropout_rate"] == encoder["attention_dropout_rate"] == 0.0
    assert fields[0]["num_layers"] == own["num_layers"]


def test_a_start_is_all_that_comes_before_the_first_result():
    """Our step is compiled before it is called, those of PyTorch when they are."""

    def slowly(options):
        time.sleep(0.2)
        return sides.Measured(lambda: time.sleep(0.1), lambda result: None, lambda: 1, 1, {})

    found = throughput.measure(slowly, _options(steps=3))
    assert found["start"] >= 0.3 > min(found["steps"]) >= 0.1
    assert len(found["steps"]) == 3


def test_a_checkout_without_the_official_model_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="give the root of an official checkout"):
        sides.officially(_options(peer=str(tmp_path)))


def test_timm_is_left_out_without_torchvision(monkeypatch, capsys):
    """Its import would end in a traceback, rounds later."""
    monkeypatch.setattr(throughput.torch_vit, "installed", lambda name: name != "torchvision")
    assert throughput.peers(_options(libraries="torch,timm", ways="eager")) == ["torch eager flash"]
    assert capsys.readouterr().err == "timm: left out, not installed: torchvision\n"


def test_a_model_in_bfloat16_itself_is_a_side_of_inference_alone(monkeypatch):
    monkeypatch.setattr(throughput.torch_vit, "installed", lambda name: True)
    asked = _options(libraries="timm", dtype="bfloat16", mode="infer")
    assert "timm pure flash" in throughput.peers(asked)
    assert "timm pure flash" not in throughput.peers(_options(libraries="timm", mode="infer"))
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--ways=pure", "--mode=train"])
    with pytest.raises(SystemExit):
        throughput.parse_arguments()


@pytest.mark.parametrize("way", ["pure", "eager"])
def test_the_dtype_of_pytorchs_parameters_is_that_of_its_way(way, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sides.COMPILED, "pure", None)  # its compiler is no matter here
    made = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    monkeypatch.setattr(sides.torch_vit, "make", lambda library, sizes: made)
    side = sides.theirs(_options(side=f"torch {way} flash", dtype="bfloat16", mode="infer"))
    assert side.call().dtype == torch.bfloat16
    expected = {"pure": torch.bfloat16, "eager": torch.float32}[way]
    assert {parameter.dtype for parameter in made.parameters()} == {expected}


def test_results_are_kept_under_a_name_with_versions_and_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "KEPT", tmp_path / "kept")
    one = {"start": 1.0, "steps": [0.5], "peak_memory_bytes": 1, "parameters": 1}
    taken = rounds.Taken({"vit_jax": [{**one, "versions": {"jax": "1"}}]}, {})
    throughput.report(taken, _options(keep="name", peer="/home/somebody/official"))
    text = (tmp_path / "kept" / "name.json").read_text()
    found = json.loads(text)
    assert found["rounds"]["vit_jax"][0]["versions"] == {"jax": "1"}
    assert found["machine"]["jaxlib"]
    assert found["medians_ms"] == {"vit_jax": [500.0]}
    assert "somebody" not in text
    assert json.loads(capsys.readouterr().out) == found


def test_a_machine_has_the_accelerators_that_were_computed_on():
    card = argparse.Namespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3")
    found = machine.describe([card, card])
    assert found["accelerators"] == "2 NVIDIA H100 80GB HBM3"
    assert machine.line(found).startswith("2 NVIDIA H100 80GB HBM3, ")
    plain = machine.describe(jax.devices())
    assert "accelerators" not in plain
    assert machine.line(plain).startswith(f"{plain['cores']} cores of an")


@pytest.mark.parametrize(("code", "expected"), [(0, ["NVIDIA H100 80GB HBM3"]), (9, [])])
def test_the_driver_names_the_cards(code, expected, tmp_path, monkeypatch):
    """Where it is broken, that is no reason to measure nothing."""
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\necho NVIDIA H100 80GB HBM3\nexit {code}\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert [card.device_kind for card in machine.cards()] == expected
    asked = throughput.measured(_options(device="cuda"))["machine"]
    assert asked.get("accelerators") == (f"1 {expected[0]}" if expected else None)
    assert "accelerators" not in throughput.measured(_options(device="cpu"))["machine"]
