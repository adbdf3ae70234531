"""Memory that runs out is one line: what was asked, what there is, and which setting to halve."""

import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from tests import runs
from tests.golden import REPOSITORY
from vit_jax import nonfinite
from vit_jax.benchmark import workload
from vit_jax.errors import ConfigError
from vit_jax.evaluate import Evaluator
from vit_jax.main import main
from vit_jax.run import Run
from vit_jax.runtime import memory
from vit_jax.train import train

HUGE = 1 << 46  # float32 values: more than a processor can address


def test_an_allocation_that_fails_says_what_was_asked_and_what_there_is():
    with (
        pytest.raises(ConfigError, match=r"a test asked for 281\.5 TB more, and cpu has .* in all"),
        memory.explained("a test", "halve it"),
    ):
        jax.jit(lambda: jnp.zeros(HUGE))().block_until_ready()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12.50GiB.", "12.50 GiB more"),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 2048 bytes.", "asked for 2.0 kB more"),
        ("INTERNAL: Error dispatching computation: Out of memory", "did not fit"),
    ],
)
def test_messages_of_all_runtimes_are_understood(said, words):
    with pytest.raises(ConfigError, match=words), memory.explained("a test", "halve it"):
        raise jax.errors.JaxRuntimeError(said)


def test_the_hosts_own_memory_counts_too():
    with pytest.raises(ConfigError, match="halve it"), memory.explained("a test", "halve it"):
        bytearray(1 << 62)


def test_other_errors_pass():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.explained("a", "b"):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (["train"], "halve config.batch,"),
        (["infer", "--batch=16"], "halve --batch"),
        (["infer"], "halve config.batch_eval"),
    ],
)
def test_a_batch_that_does_not_fit_is_one_line_and_exit_2(kind, setting, monkeypatch, capsys):
    monkeypatch.setattr(
        workload, "_batch", lambda *_: jax.jit(lambda: jnp.zeros(HUGE))().block_until_ready()
    )
    assert main(["benchmark", *kind, "--config=digits", "--config.num_classes=3"]) == 2
    said = capsys.readouterr().err
    assert "out of memory" in said
    assert setting in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("owner", "method", "setting"),
    [(Run, "start", r"halve config\.batch,"), (Evaluator, "__call__", r"halve config\.batch_eval")],
)
def test_training_names_the_setting_of_what_did_not_fit(
    owner, method, setting, tmp_path, monkeypatch
):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def next_to_nothing(*_, **__):
        measured = {"loss": jnp.zeros(()), "accuracy": jnp.zeros(())}
        measured |= {nonfinite.KEPT: jnp.array(True), nonfinite.FINITE_LEAVES: jnp.ones(1)}
        return jax.jit(lambda state, _: (state, measured))

    monkeypatch.setattr("vit_jax.training_program.compiled", next_to_nothing)
    monkeypatch.setattr(Run, "draw_contact_sheet", lambda *_: None)
    monkeypatch.setattr(owner, method, full)
    with pytest.raises(ConfigError, match=setting):
        train(runs.tiny_config(total_steps=1, warmup_steps=0), str(tmp_path))


def test_a_state_without_room_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 10_000)
    monkeypatch.setattr(Run, "_started", lambda *_: pytest.fail("nothing is to be made"))
    with pytest.raises(
        ConfigError, match=r"optimiser and gradient takes .* 10\.0 kB are left; take"
    ):
        train(runs.tiny_config(total_steps=1, warmup_steps=0), str(tmp_path))


@pytest.mark.parametrize("free", [None, 12])
def test_what_is_not_known_to_be_short_is_tried(free, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    memory.check_room(12, "it", "halve it")


def test_shown_reads_as_people_do():
    assert [memory.shown(n) for n in (612, 84e6, 17.2e9, 3e12)] == [
        "0.6 kB", "84.0 MB", "17.2 GB", "3.0 TB",
    ]  # fmt: skip


def test_ctrl_c_ends_a_benchmark():
    command = [sys.executable, "-m", "vit_jax.main", "benchmark", "train", "--config=digits"]
    process = subprocess.Popen(
        [*command, "--seconds=600"], cwd=REPOSITORY, text=True, stderr=subprocess.PIPE
    )
    time.sleep(10)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)  # once: none is lost
    assert process.communicate(timeout=60)[1].endswith("vit_jax: interrupted\n")
    assert process.returncode == 130
