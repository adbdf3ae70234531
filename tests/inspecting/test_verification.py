"""`vit_jax verify` and `vit_jax diff`, on small workdirs made by hand."""

import json
import shutil

import numpy as np
import pytest

from tests import runs
from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.store import Store
from vit_jax.config import to_json
from vit_jax.inspecting.divergence import compare
from vit_jax.inspecting.verification import verify
from vit_jax.main import main

STATE = {"params": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}


def make_run(root, state=STATE, **settings):
    root.mkdir()
    (root / "config.json").write_text(to_json(runs.tiny_config(**settings)))
    lines = [{"step": step, "loss": 1 / step, "timing": {"x": step}} for step in (1, 2, 3)]
    (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    digests = [{"step": step, "state_digest": f"{step:08x}"} for step in (1, 2, 3)]
    (root / "digests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in digests))
    with Store(root / "checkpoints") as store:
        store.save(1, STATE, {})
        store.save(3, state, {})
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("verify") / "run")


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def test_an_intact_run_passes_and_hears_what_was_not_checked(run, capsys):
    assert main(["verify", f"--workdir={run}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["intact", "intact", "not"]
    assert f"{run}/checkpoints/3  (" in lines[1]


@pytest.mark.parametrize("how", ["flip", "cut", "missing", "added"])
def test_every_damage_is_named_with_its_file(how, run, capsys):
    folder = run / "checkpoints" / "3"
    file = next(
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size
    )
    if how == "missing":
        file.unlink()
    elif how == "added":
        file = folder / "new"
        file.write_text("x")
    else:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data if how == "flip" else data[:-1])
    assert main(["verify", f"--workdir={run}"]) == 3
    intact, damaged, _ = capsys.readouterr().out.splitlines()
    assert intact.startswith("intact")
    assert damaged.startswith(f"damaged  {folder}/{file.relative_to(folder)}: ")


def test_one_step_is_checked_alone(run):
    shutil.rmtree(run / "checkpoints" / "1" / "state")
    assert verify(run / "checkpoints" / "3").damaged == 0
    assert verify(run / "checkpoints" / "1").damaged == 1


def test_what_a_run_deletes_meanwhile_is_not_damaged(run, monkeypatch):
    damage = integrity.damage

    def deleted(folder):
        if folder.name == "1":
            shutil.rmtree(folder)
        return damage(folder)

    monkeypatch.setattr(integrity, "damage", deleted)
    report = verify(run)
    assert report.damaged == 0
    assert [line.split()[0] for line in report.lines] == ["gone", "intact", "not"]


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "digests.jsonl"])
def test_files_beside_the_checkpoints_must_be_readable(name, run):
    (run / name).write_bytes(b'{"step": 1\xff}\n')
    report = verify(run)
    assert report.damaged == 1
    assert any(line.startswith("damaged") and name in line for line in report.lines)


def test_leftovers_are_passed_over_and_said(run):
    (run / "checkpoints" / ".staging" / "5").mkdir(parents=True)
    report = verify(run)
    assert report.damaged == 0
    assert any(".staging: 5 (a save in flight" in line for line in report.lines)


def test_nothing_to_verify_is_an_error(run, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    assert main(["verify", f"--workdir={run}"]) == 3
    assert "there is none to verify" in capsys.readouterr().err


def test_equal_runs_have_no_difference(run, made, capsys):
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().replace("2}", "9}"))
    assert main(["diff", str(run), str(made)]) == 0  # timing does not count
    assert capsys.readouterr().out.splitlines() == [
        "settings     the same",
        "metrics      the same, 3 lines",
        "digests      the same, 3 steps from 1 to 3",
        "checkpoints  step 3: all 2 arrays have the same bits",
    ]


def test_damaged_checkpoints_are_passed_over_by_a_comparison(run, made, caplog):
    file = run / "checkpoints" / "3" / "metadata" / "metadata"
    file.write_bytes(file.read_bytes()[::-1])
    found = compare(run, made)
    assert not found.differs
    assert found.lines[-1] == "checkpoints  step 1: all 2 arrays have the same bits"
    assert "step 3 of" in caplog.text
    shutil.rmtree(run / "checkpoints" / "1" / "state")
    assert compare(run, made).lines[-1] == "checkpoints  no intact step that both have saved"


def test_runs_that_part_are_told_apart_everywhere(made, tmp_path, capsys):
    kernel = STATE["params"]["kernel"].copy()
    kernel[0, 1] += 0.25
    params = {"kernel": kernel, "bias": np.array([0.0, -0.0, 0.0], np.float32)}
    other = make_run(tmp_path / "other", {"params": params}, seed=5)
    text = (other / "metrics.jsonl").read_text().replace('"loss": 0.5', '"loss": 0.25')
    (other / "metrics.jsonl").write_text(text)
    digests = (other / "digests.jsonl").read_text().replace("00000002", "0000000a")
    (other / "digests.jsonl").write_text(digests)
    assert main(["diff", str(made), str(other)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "settings     config.seed: 0 | 5",
        "metrics      part at line 2: step 2, loss 0.5 | 0.25",
        "digests      part at step 2: 00000002 | 0000000a",
        "checkpoints  step 3: 2 of 2 arrays differ",
        "  params/bias: largest difference 0 where the largest value is 0 (0 of 3 values)",
        "  params/kernel: largest difference 0.25 where the largest value is 1.25 (1 of 6 values)",
    ]


def test_a_shorter_run_and_one_without_digests_are_told(run, made):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    (run / "digests.jsonl").unlink()
    found = compare(run, made)
    assert found.differs
    assert "metrics      the same for 2 lines; the second goes on to step 3" in found.lines
    assert any("config.state_digests=True" in line for line in found.lines)
