"""`vit_jax demo` as a person starts and ends it."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'vit_jax[demo]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'vit_jax[demo]'")

from tests.golden import REPOSITORY
from tests.test_predict import write
from vit_jax import extras
from vit_jax.demo.serving import address, bind
from vit_jax.errors import ConfigError
from vit_jax.main import main


def refused(capsys, *arguments: str) -> str:
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_taken_port_is_one_line_before_any_weights_are_read(capsys):
    with bind(0) as taken:
        port = taken.getsockname()[1]
        error = refused(capsys, "no_such_weights", f"--port={port}")
    assert f"--port={port}: another program has it; give another, or 0 for any" in error


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_is_none_is_refused(port, capsys):
    assert "must be 1 to 65535" in refused(capsys, "weights.npz", f"--port={port}")


def test_other_wrong_flags_are_one_line(capsys):
    assert "--top=0: must be at least 1" in refused(capsys, "weights.npz", "--top=0")
    assert "no such flag" in refused(capsys, "weights.npz", "--host=0.0.0.0")
    assert "no such flag" in refused(capsys, "weights.npz", "--share")


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    error = refused(capsys, "weights.npz")
    assert "needs starlette and uvicorn: pip install 'vit_jax[demo]'" in error


def test_weights_that_are_not_there_are_one_line(capsys):
    assert main(["demo", "missing.npz", "--port=0"]) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_the_page_is_for_this_machine_alone():
    with bind(0) as listening:
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        assert address(listening) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigError, match="another program has it"):
            bind(port)
        with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
            elsewhere.connect(("127.0.0.2", port))


# As a terminal starts a program: a job in the background has Ctrl-C ignored.
IN_FRONT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from vit_jax.main import run
run()
"""


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "vit_jax: interrupted\n"), (signal.SIGTERM, -signal.SIGTERM, "")],
)
def test_it_tells_its_address_serves_and_ends_by_a_signal(number, code, says, tmp_path):
    weights = write(tmp_path / "weights.npz")
    with subprocess.Popen(
        [sys.executable, "-c", IN_FRONT, "demo", str(weights), "--port=0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[1]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"<title>vit_jax demo</title>" in page.read()
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", says)
