"""What SECURITY.md says, held: nothing unpickled or evaluated, no shell, no secret written."""

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.golden import REPOSITORY
from tests.test_main import TINY
from vit_jax.runtime.processes import bound

FILES = sorted((REPOSITORY / "vit_jax").rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "subprocess", "pty"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.spawnl", "yaml.load"}
# The one place that runs Python of the user's own: a recipe, by --config=FILE.py.
RUNS_CODE = {"recipes.py": {"spec.loader.exec_module"}}
SECRETS = {
    "WANDB_API_KEY": "wandbsecret0123",
    "HF_TOKEN": "hfsecret4567",
    "AWS_SECRET_ACCESS_KEY": "awssecret89",
    "HTTPS_PROXY": "http://user:proxysecret@127.0.0.1:9",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_code_runs_code_that_it_reads(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & MODULES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in MODULES
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in CALLS
            assert "exec_module" not in name or name in RUNS_CODE.get(file.name, ())
            for keyword in node.keywords:
                told = ast.unparse(keyword.value)
                assert keyword.arg != "shell", "no shell"
                assert keyword.arg != "allow_pickle" or told == "False"
            if name.endswith(("np.load", "numpy.load")):
                assert any(keyword.arg == "allow_pickle" for keyword in node.keywords)


def _run(arguments):
    environment = os.environ | SECRETS | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "vit_jax.main", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=REPOSITORY, timeout=400
    )


def test_secrets_of_the_environment_are_written_nowhere(tmp_path):
    workdir = tmp_path / "run"
    flags = [f"--workdir={workdir}", *TINY, "--config.total_steps=4", "--config.warmup_steps=1"]
    ended = _run(["train", "--config=digits", *flags])
    assert ended.returncode == 0, ended.stderr
    refused = _run(["train", "--config=digits", *flags, "--config.base_lr=1"])
    assert refused.returncode == 2, refused.stderr
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in written} >= {"config.json", "metrics.jsonl", "integrity.json"}
    said = "\n".join((ended.stdout, ended.stderr, refused.stdout, refused.stderr))
    for name, secret in SECRETS.items():
        word = re.search(r"\w*secret\w*", secret)
        assert word is not None
        assert word[0] not in said, name
        assert [path for path, content in written.items() if word[0].encode() in content] == []


@pytest.mark.parametrize(
    ("given", "listens"),
    [
        ("127.0.0.1:1234", "127.0.0.1:1234"),
        ("localhost:1234", "localhost:1234"),
        ("[::1]:1234", "[::1]:1234"),
        ("10.0.0.1:1234", None),
        ("127.example.org:1234", None),
        (None, None),
    ],
)
def test_a_job_on_one_machine_listens_to_that_machine_alone(given, listens):
    assert bound(given) == listens


def test_every_promise_of_the_page_names_a_test_that_is_there():
    page = (REPOSITORY / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) >= 8
    for file, test in named:
        text = (REPOSITORY / file).read_text()
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
