"""What is to be measured on an accelerator: which jobs, in what order, and how one is ended."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.golden import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
accelerator = importlib.import_module("accelerator")
throughput = importlib.import_module("throughput")
HEADLINES = ["matmuls", "attention", "short_attention", "train_beside", "infer_beside", "official"]
HEADLINES += ["save", "train", "train_warm"]


def _listed(monkeypatch, capsys, *flags):
    """Returns {job: its command} of --list."""
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "results", "--list", *flags])
    accelerator.main()
    lines = capsys.readouterr().out.splitlines()
    return {line.split("\t")[0]: line.split("\t")[2] for line in lines}


@pytest.mark.parametrize("small", [(), ("--small",)])
def test_each_figure_that_is_asked_of_a_card_has_a_job(small, monkeypatch, capsys):
    jobs = _listed(monkeypatch, capsys, "--peer=checkout", *small)
    assert "--peer=checkout" in jobs["official"]
    assert jobs["official_float32"].endswith("--dtype=float32")
    assert "--ways=compiled,pure" in jobs["infer_beside"]
    assert "--libraries=timm --ways=autotuned" in jobs["train_autotuned"]
    batch = int(jobs["train_beside"].split("--batch=")[1].split()[0])
    assert f"--batch={4 * batch} " in jobs["large_batch_beside"]
    assert jobs["train_warm"] == jobs["train"]
    assert ("short_attention" in jobs) == (not small)  # a processor cannot run it
    assert not {"official", "official_float32"} & _listed(monkeypatch, capsys, *small).keys()


def test_a_warm_start_is_the_second_of_two_with_one_cache(tmp_path, monkeypatch, capsys):
    script = tmp_path / "starts.py"
    script.write_text(
        "import os, pathlib\n"
        "file = pathlib.Path(os.environ['VIT_JAX_CACHE'], 'starts')\n"
        "file.write_text((file.read_text() if file.exists() else '') + 'x')\n"
        "print('{\"starts\": %d}' % len(file.read_text()))\n"
    )
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path))
    accelerator.run(accelerator.Job("warm", 1, (str(script),), times=2), tmp_path, 60)
    assert (tmp_path / "warm.json").read_text() == '{"starts": 2}\n'
    assert not (tmp_path / "starts").exists()  # in a cache of its own
    assert capsys.readouterr().out.startswith("warm: done")


def test_the_headlines_come_first_and_what_is_compared_has_three_rounds(monkeypatch, capsys):
    jobs = _listed(monkeypatch, capsys, "--peer=checkout")
    assert [*jobs][: len(HEADLINES)] == HEADLINES
    compared = {name: job for name, job in jobs.items() if job.startswith("throughput.py")}
    assert len(compared) > 5
    for command in compared.values():
        monkeypatch.setattr(sys, "argv", command.split())
        assert throughput.parse_arguments().rounds == 3


def test_xla_knows_the_flags_that_are_tried(monkeypatch, capsys):
    """A process that gets another in XLA_FLAGS is ended, on a CPU too."""
    jobs = _listed(monkeypatch, capsys)
    flags = [job.split()[0] for job in jobs.values() if job.startswith("XLA_FLAGS=")]
    assert len(flags) == len(accelerator.XLA_FLAGS) == 3
    code = "import jax; print(jax.device_count())"
    given = dict(os.environ, JAX_PLATFORMS="cpu")
    for wrong in ("", " --xla_gpu_no_such_flag=1"):
        given["XLA_FLAGS"] = " ".join(accelerator.XLA_FLAGS.values()) + wrong
        done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True)
        assert (done.returncode == 0) == (not wrong)


def test_a_job_gets_its_flags_after_those_of_the_user(tmp_path, monkeypatch):
    script = tmp_path / "flags.py"
    script.write_text("import json, os; print(json.dumps({'flags': os.environ['XLA_FLAGS']}))")
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    accelerator.run(accelerator.Job("x", 1, (str(script),), xla_flags="--b=2"), tmp_path, 60)
    assert (tmp_path / "x.json").read_text() == '{"flags": "--a=1 --b=2"}\n'


# A job that starts a process of its own, says which, and does not end.
ENDLESS = """
import os, pathlib, subprocess, sys, time
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"])
else:
    file = pathlib.Path(__file__).with_suffix(".pid")
    file.with_suffix(".tmp").write_text(str(os.getpid()))
    file.with_suffix(".tmp").rename(file)
time.sleep(600)
"""


def _gone(process):
    """Returns whether a process ends within some seconds; a zombie has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
def test_a_job_past_its_time_ends_with_all_that_it_started(tmp_path, capsys):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    accelerator.run(accelerator.Job("endless", 1, (str(script),)), tmp_path, 5)
    assert _gone(int((tmp_path / "endless.pid").read_text()))
    assert capsys.readouterr().out.startswith("endless: ended after 5 s")
    assert not (tmp_path / "endless.json").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_job_ends_with_the_program_that_started_it(sent, tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    code = (
        # Python leaves Ctrl-C ignored where whoever started the tests ignores it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'benchmarks')!r}); import accelerator\n"
        f"job = accelerator.Job('endless', 1, ({str(script)!r},))\n"
        "accelerator.listed = lambda options: [job]\n"
        f"sys.argv = ['accelerator.py', {str(tmp_path)!r}]\n"
        "accelerator.main()\n"
    )
    whole = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    child = tmp_path / "endless.pid"
    while not child.exists():
        assert whole.poll() is None
        time.sleep(0.1)
    whole.send_signal(sent)
    assert whole.wait(60) != 0
    assert _gone(int(child.read_text()))


def test_a_kernel_that_fails_is_told(tmp_path, monkeypatch, capsys):
    failed = {"hopper": "no such instruction"}
    (tmp_path / "short_attention.py").write_text(f"print({json.dumps({'failed': failed})!r})")
    (tmp_path / "other.py").write_text("print({})")
    monkeypatch.setattr(accelerator, "HERE", tmp_path)
    for script in ("short_attention.py", "other.py"):
        accelerator.run(accelerator.Job(script[:-3], 1, (script,)), tmp_path, 60)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("short_attention: done, but hopper: no such instruction, ")
    assert second.startswith("other: done, ")


def test_a_comparison_that_fails_leaves_what_it_had(tmp_path, monkeypatch, capsys):
    script = tmp_path / "throughput.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "file = pathlib.Path(sys.argv[-1].removeprefix('--so-far='))\n"
        "print('a start', file=sys.stderr)\n"
        "ends = file.exists()\n"
        "file.write_text('half')\n"
        "print(json.dumps({'failed': {'timm': 'out of memory'}}))\n"
        "sys.exit(not ends)\n"
    )
    monkeypatch.setattr(accelerator, "HERE", tmp_path)
    job = accelerator.Job("beside", 1, ("throughput.py",))
    accelerator.run(job, tmp_path, 60)
    assert (tmp_path / "beside.partial.json").read_text() == "half"
    assert not (tmp_path / "beside.json").exists()
    accelerator.run(job, tmp_path, 60)
    assert not (tmp_path / "beside.partial.json").exists()
    assert json.loads((tmp_path / "beside.json").read_text())["failed"]
    assert (tmp_path / "beside.log").read_text() == "a start\n" * 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("beside: exit status 1, ")
    assert second.startswith("beside: done, but timm: out of memory, ")
