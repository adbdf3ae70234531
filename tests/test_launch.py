"""The launch files: what they run exists, and their languages would read them."""

import re
import shutil
import subprocess

import pytest

from tests.golden import REPOSITORY
from vit_jax.commands.parser import flags_of, make_parser
from vit_jax.recipes import shipped

LAUNCH = REPOSITORY / "configs" / "launch"
FILES = sorted(LAUNCH.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".sh"]


def text_of(file):
    """The file without its comments."""
    lines = file.read_text().splitlines()
    return "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in lines)


def test_there_is_one_for_each_kind_of_cluster():
    assert {file.stem for file in FILES} == {"slurm", "tpu_pod", "gke_jobset"}
    assert not set(shipped()) & {file.stem for file in FILES}  # they are no recipes


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_bash_reads_it(file):
    subprocess.run(["bash", "-n", str(file)], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_arguments_reach_the_command_whole(file, tmp_path):
    """With a stand-in for the cluster's own command, which writes down what it was given."""
    for name in ("srun", "gcloud"):
        stand_in = tmp_path / name
        stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        stand_in.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NAME": "tpu", "ZONE": "zone"}
    given = ["--config=digits", "--workdir=a b"]
    command = ["bash", str(file), *given]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    arguments = said.stdout.replace("a\\ b", "a b")
    assert "train" in arguments
    for word in ("--distributed", *given):
        assert word in arguments


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_flag_of_vit_jax_exists(file):
    _, commands = make_parser()
    known = flags_of(commands["train"])
    text = text_of(file)
    command = text[text.index("vit_jax", text.index("train") - 20) :]
    flags = re.findall(r"--[a-z]+", command)
    assert flags
    assert set(flags) <= set(known)


def test_the_job_set_is_yaml_and_its_numbers_agree():
    yaml = pytest.importorskip("yaml", reason="PyYAML is no dependency of the project")
    job = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    (part,) = job["spec"]["replicatedJobs"]
    pods = part["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    flags = dict(flag.split("=", 1) for flag in container["args"])
    assert pods["parallelism"] == pods["completions"] == int(flags["--processes"])
    # The name that JobSet gives the first pod: JOBSET-JOB-REPLICA-POD.JOBSET.
    name, port = flags["--coordinator"].split(":")
    assert name == f"{job['metadata']['name']}-{part['name']}-0-0.{job['metadata']['name']}"
    assert int(port) == container["ports"][0]["containerPort"]
