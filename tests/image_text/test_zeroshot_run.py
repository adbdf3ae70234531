"""A tuned run as what zero-shot and retrieval are asked of, and its weights written out."""

import json
from typing import Any

import jax
import pytest

from tests import pair_runs
from tests.data import caption_sets
from tests.text import vocabularies
from vit_jax import trees
from vit_jax.main import main
from vit_jax.models.inputs import example_inputs
from vit_jax.pretrained import load_run, open_pretrained
from vit_jax.records.loggers import Console
from vit_jax.release import save_pretrained
from vit_jax.train import train

pytest.importorskip("tokenizers", reason="the extra lit")


def scores_of(capsys, *command: str) -> dict[str, float]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Tuned for three steps with word pieces, the sigmoid loss, and templates of its own."""
    root = tmp_path_factory.mktemp("tuned")
    (root / "vocab.txt").write_bytes(vocabularies.bert().content)
    (root / "templates.txt").write_text("a photo of the {}\n{}!\n")
    text = {"tokenizer": "bert", "vocabulary": str(root / "vocab.txt"), "max_len": 8}
    config = pair_runs.tiny_config(
        text=text,
        loss="sigmoid",
        templates=str(root / "templates.txt"),
        total_steps=3,
        eval_every=3,
        checkpoint_every=3,
    )
    train(config, str(root / "run"), Console(quiet=True))
    (root / "vocab.txt").unlink()  # the run has its own copy
    return root


def test_a_run_scores_as_it_evaluates_itself(run, capsys):
    evaluated = scores_of(capsys, "evaluate", f"--workdir={run / 'run'}")
    found = scores_of(capsys, "zeroshot", f"--checkpoint={run / 'run'}")
    assert found["images"] == 355
    assert found["prompts"] == 20
    for name in ("accuracy", "top5_accuracy", "macro_f1"):
        assert found[name] == evaluated[name]
    assert found["loss"] == pytest.approx(evaluated["loss"], rel=1e-5)


def test_its_towers_open_as_a_model(run):
    """Without the bias of the sigmoid loss, which is no parameter of it."""
    loaded = open_pretrained(run / "run")
    assert loaded.report.dropped == ("b",)
    params: Any = loaded.variables["params"]
    assert {*params} == {"img", "txt", "t"}
    images, tokens = example_inputs(loaded.model, loaded.preprocess.size)
    zimg, ztxt, _ = jax.eval_shape(loaded.model.apply, loaded.variables, images, tokens)
    assert zimg.shape[1] == ztxt.shape[1]


def test_its_variables_can_be_saved(run, tmp_path):
    loaded: Any = load_run(run / "run")
    save_pretrained(tmp_path, loaded.model, loaded.variables, loaded.preprocess, format="official")
    again = open_pretrained(tmp_path)
    kept = {name: tree for name, tree in loaded.variables["params"].items() if name != "b"}
    assert trees.difference(again.variables["params"], kept) == []


def test_its_weights_score_the_same_elsewhere(run, capsys):
    assert main(["convert", str(run / "run"), str(run / "out"), "--to=official"]) == 0
    (run / "again.txt").write_bytes(vocabularies.bert().content)
    given = [f"--templates={run / 'templates.txt'}", f"--vocabulary={run / 'again.txt'}"]
    weights = f"--checkpoint={run / 'out'}"
    found = scores_of(capsys, "zeroshot", weights, "--dataset=digits", *given)
    own = scores_of(capsys, "zeroshot", f"--checkpoint={run / 'run'}")
    assert found["accuracy"] == own["accuracy"]
    (run / "out" / "vocabulary.txt").write_bytes(vocabularies.bert().content)  # then none is named
    found = scores_of(capsys, "zeroshot", weights, "--dataset=digits", given[0])
    assert found["accuracy"] == own["accuracy"]


def test_retrieval_by_a_run_on_other_pairs(run, capsys, tmp_path):
    caption_sets.text_folder(tmp_path, 4, "test", per_image=2)
    found = scores_of(
        capsys,
        "retrieve",
        f"--checkpoint={run / 'run' / 'checkpoints' / '3'}",
        f"--dataset={tmp_path}",
    )
    assert (found["images"], found["texts"]) == (4, 8)
