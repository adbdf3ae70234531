"""Model cards: a header that YAML reads, and what a run tells of itself, without its paths."""

import dataclasses
import json

import pytest

from tests import runs
from tests.test_predict import write
from vit_jax.card import Facts, facts_of_run, facts_of_source, model_card
from vit_jax.checkpoints.store import Store
from vit_jax.config import changed, to_json
from vit_jax.errors import ConfigError
from vit_jax.inspecting.inspection import inspect
from vit_jax.main import main
from vit_jax.pretrained import load_run, open_origin
from vit_jax.settings import KEYS


def header_of(card: str):
    yaml = pytest.importorskip("yaml", reason="PyYAML is no dependency of the project")
    _, header, text = card.split("---\n", 2)
    return yaml.safe_load(header), text


@pytest.fixture
def workdir(tmp_path):
    """What a run leaves: a checkpoint of step 20, and its metrics."""
    import jax
    import jax.numpy as jnp

    from vit_jax.experiment import make_model, make_preprocess

    config = runs.tiny_config(
        dataset="/home/me/My: photos", base_lr=0.007, tfds_data_dir="/home/me/t"
    )
    model = make_model(config, 2)
    images = jnp.zeros((1, 8, 8, 3))
    metadata = {"config": json.loads(to_json(config)), "class_names": ["cat", "dög: 'a'"]}
    metadata["preprocess"] = make_preprocess(config).to_dict()
    workdir = tmp_path / "photos"
    with Store(workdir / "checkpoints") as store:
        store.save(20, jax.jit(model.init)(jax.random.PRNGKey(0), images), metadata)
    lines = [{"step": s, "test_accuracy": s / 100, "test_loss": 1.0} for s in (10, 20, 30)]
    (workdir / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return workdir


def test_a_converted_run_tells_recipe_score_and_data(workdir, tmp_path):
    command = ["convert", str(workdir), str(tmp_path / "out"), "--to=timm", "--licence=cc-by-4.0"]
    assert main(command) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    header, text = header_of(card)
    assert header["library_name"] == "timm"
    assert header["license"] == "cc-by-4.0"
    (result,) = header["model-index"][0]["results"]
    assert result["dataset"]["name"] == "My: photos"
    assert {m["type"]: m["value"] for m in result["metrics"]} == {"accuracy": 0.2, "loss": 1.0}
    recipe = json.loads(text.split("## Recipe\n\n```json\n")[1].split("```")[0])
    assert recipe["base_lr"] == 0.007
    assert recipe["step"] == 20
    assert recipe["dataset"] == "My: photos"
    assert "weight_decay" not in recipe  # as by default
    for part in ("cat, dög: 'a'", "vit_jax.load_pretrained('FOLDER')", "## Licence", "## Data"):
        assert part in text
    assert "/home/me" not in card


def test_no_setting_tells_a_path_of_the_machine(workdir):
    texts = {path for path, key in KEYS.items() if str in (key.kind, type(key.default))}
    free = {path for path in texts if KEYS[path].rule is None}
    paths = {path for path, key in KEYS.items() if key.is_path}
    # A new one is either a path, and marked so, or belongs here.
    assert free - paths == {"pp.train", "pp.test", "model.model_name", "model.classifier"}
    secret = dict.fromkeys(paths, "/home/me/file") | {"text.vocabulary": "https://me:pw@h/v?key=1"}
    run = load_run(workdir)
    facts = facts_of_run(dataclasses.replace(run, config=changed(run.config, secret)))
    assert isinstance(facts.recipe, dict)
    assert facts.recipe["templates"] == "file"
    assert facts.recipe["text.vocabulary"] == "v"
    card = model_card(open_origin(workdir, {}), "official", facts)
    assert "/home" not in card
    assert "pw" not in card


def test_a_run_without_scores_has_a_card_without(workdir):
    (workdir / "metrics.jsonl").unlink()
    facts = facts_of_run(load_run(workdir))
    assert facts.score is None
    header, _ = header_of(model_card(open_origin(workdir, {}), "official", facts))
    assert "model-index" not in header


def test_a_step_that_was_not_evaluated_has_no_score_of_another(workdir):
    (workdir / "metrics.jsonl").write_text(
        '{"step": 10, "test_accuracy": 0.9}\n{"step": 20, "loss": 1.0}\n'
    )
    assert facts_of_run(load_run(workdir)).score is None
    assert (inspect(workdir).run or {})["scores"] == {}


def test_a_step_is_titled_by_its_run_and_each_line_that_opens_it_is_there_once(workdir):
    origin = open_origin(workdir / "checkpoints" / "20", {})
    for format in ("official", "timm"):
        card = model_card(origin, format, Facts())
        assert "\n# photos\n" in card
        assert card.count("vit_jax.load_pretrained(") == 1


def test_the_catalogue_knows_licences():
    assert facts_of_source("deit_tiny_patch16_224.fb_in1k").licence == "apache-2.0"
    assert facts_of_source("mine.npz") == Facts()


def test_a_licence_that_would_break_the_header_is_refused(tmp_path):
    origin = open_origin(write(tmp_path / "f.npz"), {})
    for licence in ("mit\ntags: x", "", "a b", "- x"):
        with pytest.raises(ConfigError, match="must be an identifier"):
            model_card(origin, "timm", Facts(licence=licence))
