"""Sides that take turns: what is kept when one fails, and what may be said of the others."""

import argparse
import importlib
import json
import os
import subprocess
import sys

import pytest

from tests.golden import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
rounds = importlib.import_module("rounds")
throughput = importlib.import_module("throughput")

# A script whose sides end in every way that there is.
SIDES = """
import os, signal, sys, warnings
side = sys.argv[1].removeprefix("--side=")
warnings.warn("Error: not this line")
if side == "torch":
    error = RuntimeError("CUDA out of memory.")
    error.add_note("For simplicity, some frames are not shown.")
    raise error
if side == "exits":
    sys.exit("--peer: there is no such folder")
if side == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if side != "silent":
    print("a line of a library")
    print('{"steps": [0.5]}')
"""


@pytest.fixture
def run(tmp_path):
    script = tmp_path / "sides.py"
    script.write_text(SIDES)
    return lambda name: rounds.run_apart(str(script), name, argparse.Namespace(), (), {})


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        ("torch", "RuntimeError: CUDA out of memory."),
        ("exits", "--peer: there is no such folder"),
        ("killed", "ended by signal 9"),
    ],
)
def test_a_side_that_fails_says_why_in_a_line(run, side, reason, capsys):
    with pytest.raises(rounds.Failed) as found:
        run(side)
    assert str(found.value) == reason
    assert "not this line" in capsys.readouterr().err  # all that it said goes on to the log


def test_a_side_without_a_result_has_failed(run):
    with pytest.raises(rounds.Failed):
        run("silent")


def test_the_others_go_on_when_one_fails(run):
    kept, taken = [], rounds.Taken({"vit_jax": [], "torch": [], "timm": []}, {})
    rounds.take_turns(taken, 2, run, lambda taken: kept.append(json.dumps(taken)))
    one = {"steps": [0.5]}
    assert taken.rounds == {"vit_jax": [one, one], "torch": [], "timm": [one, one]}
    assert taken.failed == {"torch": "RuntimeError: CUDA out of memory."}
    counts = [[len(results) for results in json.loads(text)[0].values()] for text in kept]
    # The side that failed is not run again.
    assert counts == [[1, 0, 0], [1, 0, 0], [1, 0, 1], [2, 0, 1], [2, 0, 2]]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([], "missing"),
        ([1.0], "1 round: no verdict"),
        ([9.0, 9.0], "2 rounds: no verdict"),
        ([1.0, 1.0, 1.5], "faster"),
        ([3.0, 3.5, 4.0], "slower"),
        ([1.0, 1.5, 2.0], "no win"),
    ],
)
def test_a_verdict_needs_three_rounds_of_both(own, said):
    assert rounds.verdict(own, [2.0, 2.1, 2.2]) == said
    if len(own) < 3:
        assert rounds.verdict([2.0, 2.1, 2.2], own) == said


def _result(seconds, parameters=7):
    return {"start": 9.0, "steps": [seconds], "peak_memory_bytes": 10**9,
            "parameters": parameters, "versions": {"jax": "1"}}  # fmt: skip


def _options(**changes):
    asked = dict.fromkeys((*throughput.PASSED_ON, "keep", "so_far"))
    return argparse.Namespace(**{**asked, "batch": 8, "json": False, **changes})


def test_what_was_measured_is_on_disk_after_every_process(tmp_path):
    options = _options(so_far=tmp_path / "so_far.json")
    taken = rounds.Taken({"vit_jax": [_result(0.5)], "timm": []}, {})
    throughput.keep(taken, options)
    found = json.loads(options.so_far.read_text())
    assert found["rounds"]["vit_jax"][0]["steps"] == [0.5]
    assert not found["complete"]
    assert found["vit_jax_is"] == {"timm": "missing"}
    assert list(tmp_path.iterdir()) == [options.so_far]


@pytest.mark.parametrize("change", [{}, {"batch": 16}, {"machine": "another"}])
def test_what_is_on_disk_is_gone_on_with_if_all_is_the_same(change, tmp_path, monkeypatch):
    options, names = _options(so_far=tmp_path / "so_far.json"), ["vit_jax", "timm"]
    throughput.keep(rounds.Taken({"vit_jax": [_result(0.5)], "timm": []}, {"timm": "x"}), options)
    if "machine" in change:
        monkeypatch.setattr(throughput.machine, "describe", lambda cards: {"cpu": "another"})
    options.batch = change.get("batch", options.batch)
    taken, started = throughput.begun(names, options), []

    def run(name):
        started.append(name)
        return _result(0.5)

    rounds.take_turns(taken, 2, run, lambda taken: None)
    first = ["timm"] if not change else ["vit_jax", "timm"]  # what failed is tried again
    assert started == [*first, "vit_jax", "timm"]
    assert throughput.begun(["vit_jax", "torch"], options).rounds == {"vit_jax": [], "torch": []}


def test_another_model_ends_it_at_its_first_round():
    taken = rounds.Taken({"vit_jax": [_result(0.5)], "timm": [_result(0.5, parameters=8)]}, {})
    with pytest.raises(SystemExit, match="timm: 8 parameters, ours: 7"):
        throughput.keep(taken, _options())


def test_the_table_says_which_side_is_missing_and_why(capsys):
    ours, theirs = [_result(0.5)] * 3, [_result(1.0)] * 3
    taken = rounds.Taken({"vit_jax": ours, "timm": theirs, "torch": []}, {"torch": "out of memory"})
    throughput.report(taken, _options())
    said = capsys.readouterr().out
    assert "| timm | 9.0 | 1000.0 (1000.0 – 1000.0) | 8.0 | 1.00 | 2.00× faster |" in said
    assert "| torch |  |  |  |  | missing |\ntorch failed: out of memory\n" in said
    taken = rounds.Taken({"vit_jax": [], "timm": theirs}, {"vit_jax": "out of memory"})
    throughput.report(taken, _options(json=True))
    found = json.loads(capsys.readouterr().out)
    assert found["vit_jax_is"] == {"timm": "missing"}
    assert found["complete"]
    assert found["failed"] == {"vit_jax": "out of memory"}


def test_without_our_side_there_is_nothing_to_compare(monkeypatch, capsys):
    def refuse(*given):
        raise rounds.Failed("no device")

    monkeypatch.setattr(throughput, "run_apart", refuse)
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--libraries=", "--rounds=2"])
    with pytest.raises(SystemExit) as ended:
        throughput.main()
    assert ended.value.code == 1
    assert "vit_jax failed: no device" in capsys.readouterr().out


def test_every_process_finds_what_the_last_round_compiled_and_may_fill_the_card(tmp_path):
    options = _options(device="cuda", threads=2)
    around = throughput.surroundings(options, tmp_path)
    for name in ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert around[name].startswith(str(tmp_path))
    code = "from jaxlib.xla_client import generate_pjrt_gpu_plugin_options as f; print(f())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_PYTHON_CLIENT_MEM_FRACTION": ".5", **around},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "'memory_fraction': 0.92" in said.stdout
