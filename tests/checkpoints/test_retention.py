"""Which checkpoints stay: the newest, every so many, and the best by a score."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests import runs
from tests.checkpoints.states import assert_restores, make_state
from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.retention import Retention
from vit_jax.checkpoints.store import Store
from vit_jax.errors import ConfigError
from vit_jax.image_text.recall import Ranks
from vit_jax.settings.training import RECALLS

STEPS = list(range(0, 100, 10))


def no_scores(step: int) -> dict[str, float]:
    return {}


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Retention(), {80, 90}),
        (Retention(newest=1), {90}),
        (Retention(newest=50), set(STEPS)),
        (Retention(newest=1, every=40), {0, 40, 80, 90}),
        (Retention(newest=1, best="accuracy"), {50, 90}),
        (Retention(newest=1, best="loss"), {20, 90}),
        (Retention(newest=1, best="top5_accuracy"), {90}),  # nobody measured it
        (Retention(newest=2, every=30, best="accuracy"), {0, 30, 60, 50, 80, 90}),
    ],
)
def test_a_step_stays_if_one_part_of_the_rule_asks_for_it(rule, kept):
    def scores(step):  # 30 and 50 are equally accurate; 20 has the least loss; 0 was not scored
        return {"accuracy": float(step in (30, 50)), "loss": abs(step - 20) + 0.5} if step else {}

    assert rule.kept(STEPS, scores) == kept


@pytest.mark.parametrize("score", ["loss", "accuracy"])
def test_what_is_not_finite_is_never_the_best(score):
    scores = {10: math.nan, 20: math.inf, 30: 0.25, 40: -math.inf, 90: math.nan}
    rule = Retention(newest=1, best=score)
    assert rule.kept(list(scores), lambda step: {score: scores[step]}) == {30, 90}


def test_of_no_steps_none_stays():
    assert Retention(every=2, best="loss").kept([], no_scores) == set()


@pytest.mark.parametrize("wrong", [{"newest": 0}, {"every": 0}])
def test_a_rule_that_keeps_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="=0: "):
        Retention(**wrong)


def _save(directory: Path, rule: Retention, scores: dict[int, float | None]) -> list[int]:
    with Store(directory, keep=rule) as store:
        for step, accuracy in scores.items():
            told = None if accuracy is None else {"accuracy": accuracy}
            store.save(step, make_state(step), {"step": step, "scores": told})
        store.wait()
        return store.steps()


def test_the_best_stays_until_a_better_one_comes(tmp_path: Path):
    rule = Retention(newest=1, best="accuracy")
    assert _save(tmp_path, rule, {1: 0.1, 2: 0.7, 3: None, 4: 0.3}) == [2, 4]
    assert _save(tmp_path, rule, {5: 0.6}) == [2, 5]  # known to a store that did not save it, too
    assert _save(tmp_path, rule, {6: 0.8, 7: 0.2}) == [6, 7]


def test_a_damaged_best_does_not_count(tmp_path: Path):
    rule = Retention(newest=1, best="accuracy")
    assert _save(tmp_path, rule, {1: 0.5, 2: 0.9, 3: 0.1}) == [2, 3]
    (tmp_path / "2" / "metadata" / "metadata").write_text("")
    assert _save(tmp_path, rule, {4: 0.2}) == [4]


RULE = Retention(newest=1, every=10, best="accuracy")


def test_a_stray_file_costs_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert _save(tmp_path, RULE, {7: 0.9, 10: 0.5, 15: 0.6}) == [7, 10, 15]
    (tmp_path / "7" / ".DS_Store").touch()
    (tmp_path / "7" / "state" / "Thumbs.db").touch()
    (tmp_path / "10" / "notes.txt").touch()
    assert _save(tmp_path, RULE, {18: 0.7, 19: 0.1}) == [7, 19]
    (line,) = [line for line in caplog.messages if "is left" in line]
    assert line.endswith(
        "10: is left, but counts for nothing (notes.txt: not there when the folder was sealed)"
    )
    (tmp_path / "10" / "notes.txt").unlink()
    assert _save(tmp_path, RULE, {21: 0.2}) == [7, 10, 21]


def test_a_disk_that_does_not_answer_costs_no_checkpoint(tmp_path: Path, monkeypatch):
    assert _save(tmp_path, RULE, {7: 0.9, 10: 0.5, 15: 0.6}) == [7, 10, 15]
    read_seal = integrity._read_seal

    def fails(folder: Path):
        if folder.name in ("7", "10"):
            raise OSError(24, "Too many open files", str(folder / integrity.SEAL))
        return read_seal(folder)

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "_read_seal", fails)
        assert _save(tmp_path, RULE, {18: 0.7}) == [18]  # now the best that is known
    assert Store(tmp_path).steps() == [7, 10, 18]


def test_the_last_step_that_verifies_stays_whatever_the_rule_says(tmp_path: Path):
    """Newer folders are there, all damaged; the one just saved is the only good one."""
    assert _save(tmp_path, Retention(newest=3), {1: 0.5, 8: 0.9, 9: 0.1}) == [1, 8, 9]
    for step in (8, 9):
        file = tmp_path / str(step) / "state" / "_METADATA"
        file.write_bytes(file.read_bytes()[::-1])  # of the same size: only its digest tells
    with Store(tmp_path, keep=1) as store:
        assert store.metadata()["step"] == 1
        store.save(2, make_state(2), {"step": 2})
    assert Store(tmp_path).steps() == [2]
    assert_restores(tmp_path, 2)


def test_the_best_is_only_known_if_each_checkpoint_is_evaluated():
    runs.tiny_config(keep_best="loss", checkpoint_every=20, eval_every=10)
    with pytest.raises(
        ConfigError, match=r"checkpoint_every=5 a multiple of config\.eval_every=10"
    ):
        runs.tiny_config(keep_best="loss")
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        runs.tiny_config(keep_best="acuracy")


def test_the_best_is_told_by_a_score_that_there_is():
    every = {"eval_every": 10, "checkpoint_every": 10}
    ranks = tuple(Ranks(np.zeros(1, int), np.zeros(1, int)).summary())
    assert ranks == RECALLS
    pairs = {"task": "contrast", "text": {"tokenizer": "bytes"}, "augment": {"mixup": 0.0}, **every}
    runs.tiny_config(keep_best="text_to_image_recall_1", captions="files", **pairs)
    runs.tiny_config(keep_best="accuracy", captions="classes", **pairs)
    with pytest.raises(ConfigError, match="keep_best='loss': images with captions are not scored"):
        runs.tiny_config(keep_best="loss", captions="files", **pairs)
    with pytest.raises(ConfigError, match="_recall_5': classes are not scored so, but by accuracy"):
        runs.tiny_config(keep_best="image_to_text_recall_5", **every)
