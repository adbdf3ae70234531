"""What may differ between a run and the command that goes on with it, and what is said then."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from tests import runs
from vit_jax import trees
from vit_jax.checkpoints.store import Store
from vit_jax.errors import CheckpointError, ConfigError, DataError
from vit_jax.mesh import make_mesh
from vit_jax.provenance import changes, provenance
from vit_jax.records.loggers import Console
from vit_jax.records.metrics_file import read_metrics
from vit_jax.resuming import check_data, provenance_line
from vit_jax.train import train
from vit_jax.workdir import Workdir

SAVED = {"class_names": ["cat", "dog"], "train_examples": 10}


def test_settings_that_only_change_what_is_told_go_on_and_are_named(tmp_path):
    place = Workdir(tmp_path)
    place.write_config(runs.tiny_config())
    found = place.check(runs.tiny_config(progress_every=7, keep_checkpoints=5, nonfinite="skip"))
    assert found == {
        "progress_every": (1, 7), "keep_checkpoints": (2, 5), "nonfinite": ("stop", "skip")
    }  # fmt: skip


def test_settings_that_change_numbers_need_to_be_named(tmp_path):
    place = Workdir(tmp_path)
    place.write_config(runs.tiny_config())
    other = runs.tiny_config(base_lr=0.5, weight_decay=0.1)
    with pytest.raises(ConfigError, match=r"give --changed=base_lr,weight_decay$"):
        place.check(other)
    with pytest.raises(ConfigError, match=r"weight_decay 0\.0 -> 0\.1.*--changed=weight_decay$"):
        place.check(other, ["base_lr"])
    found = place.check(other, ["base_lr", "weight_decay"])
    assert found == {"base_lr": (0.001, 0.5), "weight_decay": (0.0, 0.1)}


@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"model": {"hidden_size": 32}}])
def test_what_the_state_is_made_of_cannot_be_overridden(settings, tmp_path):
    place = Workdir(tmp_path)
    place.write_config(runs.tiny_config())
    with pytest.raises(ConfigError, match="use another workdir") as refusal:
        place.check(runs.tiny_config(**settings, base_lr=0.5))
    assert "--changed" not in str(refusal.value)
    key = "optimizer" if "optimizer" in settings else "model.hidden_size"
    with pytest.raises(ConfigError, match=f"--changed={key}: the state .* fits no other"):
        place.check(runs.tiny_config(**settings), [key])


def test_a_name_that_is_no_setting_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--changed=bace_lr: no such setting.*'base_lr'"):
        Workdir(tmp_path).check(runs.tiny_config(), ["bace_lr"])


def test_what_was_overridden_is_noted_with_its_step(tmp_path):
    place, config = Workdir(tmp_path), runs.tiny_config(base_lr=0.5, progress_every=7)
    place.adopt(config, 25, {"base_lr": (0.001, 0.5), "progress_every": (1, 7)})
    assert place.read_config()["base_lr"] == 0.5
    (noted,) = place.changes.read_text().splitlines()
    assert json.loads(noted) == {"step": 25, "settings": {"base_lr": [0.001, 0.5]}}
    place.adopt(config, 30, {"progress_every": (1, 7)})
    assert len(place.changes.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["cat", "fox"], r"no longer there: dog; new: fox"),
        (["cat", "dog", "fox"], r"\(new: fox\)"),
        (["dog", "cat"], r"in another order: class 0 was cat and is dog"),
    ],
)
def test_other_classes_are_listed_and_refused_whatever_is_overridden(names, says):
    with pytest.raises(DataError, match=says):
        check_data("photos", SAVED, {**SAVED, "class_names": names}, ["dataset"])


def test_other_images_are_refused_unless_meant():
    more = {**SAVED, "train_examples": 12}
    check_data("photos", SAVED, SAVED)
    check_data("photos", SAVED, more, ["dataset"])
    with pytest.raises(DataError, match=r"has 12 images .* trained on 10; .*--changed=dataset"):
        check_data("photos", SAVED, more)
    listed, relabelled = ({**SAVED, "train_listing": digest} for digest in "ab")
    for known, now in ((listed, listed), (SAVED, listed), (listed, SAVED)):
        check_data("photos", known, now)
    check_data("photos", listed, relabelled, ["dataset"])
    with pytest.raises(DataError, match=r"10 images have other names or other labels.*--changed"):
        check_data("photos", listed, relabelled)


def test_versions_and_devices_are_compared():
    now = provenance(runs.tiny_config(), make_mesh(2, 2, 2))
    assert provenance_line(now, now) is None
    assert provenance_line({}, now) is None, "a checkpoint from before noted nothing"
    saved = json.loads(json.dumps(now))
    saved["versions"]["jax"] = "0.0.1"
    saved["topology"] |= {"processes": 4, "mesh.fsdp": 1}
    installed = now["versions"]["jax"]
    assert changes(saved, now) == [
        f"jax 0.0.1 -> {installed}",
        "processes 4 -> 1",
        "mesh.fsdp 1 -> 2",
    ]
    line = provenance_line(saved, now)
    assert line is not None
    assert "the last bits may differ" in line
    assert (
        provenance(runs.tiny_config(seed=1), make_mesh())["config_sha256"] != now["config_sha256"]
    )


def test_a_run_goes_on_with_what_was_overridden_and_not_with_another_state(
    tmp_path, capsys, monkeypatch
):
    short = {"total_steps": 4, "eval_every": 4, "checkpoint_every": 2}
    train(runs.tiny_config(**short), str(tmp_path), Console(quiet=True))
    longer = runs.tiny_config(**short | {"total_steps": 6})
    with pytest.raises(ConfigError, match="total_steps 4 -> 6"):
        train(longer, str(tmp_path), Console(quiet=True))
    restore, saved = Store.restore, {}

    def from_another_jax(self, abstract, step=None):
        restored = restore(self, abstract, step)
        if restored is not None:
            saved.update(restored.metadata)
            restored.metadata["versions"]["jax"] = "0.0.1"
        return restored

    with monkeypatch.context() as patch:
        patch.setattr(Store, "restore", from_another_jax)
        assert train(longer, str(tmp_path), changed=["total_steps"]).step == 6
    said = capsys.readouterr().out
    assert "settings changed: total_steps 4 -> 6" in said
    assert "saved under other conditions (jax 0.0.1 -> " in said
    assert saved.keys() >= {"versions", "topology", "config_sha256", "state_digest", "nonfinite"}
    assert json.loads((tmp_path / "changes.jsonl").read_text())["step"] == 4
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if "loss" in r] == list(
        range(1, 7)
    )

    def other_bits(self, abstract, step=None):
        restored = restore(self, abstract, step)
        assert restored is not None
        kernel = restored.state.params["head"]["kernel"]
        head = {**restored.state.params["head"], "kernel": jnp.nextafter(kernel, jnp.inf)}
        state = restored.state.replace(params={**restored.state.params, "head": head})
        return dataclasses.replace(restored, state=state)

    monkeypatch.setattr(Store, "restore", other_bits)
    with pytest.raises(CheckpointError, match=r"checkpoints/6: .* has digest \w{8}, not \w{8}"):
        train(longer, str(tmp_path), Console(quiet=True))


def test_a_run_may_go_on_with_layer_decay_on_another_mesh_with_blocks_as_a_loop(tmp_path):
    shape = {"transformer": {"num_layers": 2}, "scan_blocks": True}
    settings = {"model": shape, "eval_every": 10, "checkpoint_every": 2, "warmup_steps": 1}
    train(runs.tiny_config(**settings, total_steps=2), str(tmp_path))
    before = runs.last_saved(tmp_path).state["params"]
    config = runs.tiny_config(
        **settings, total_steps=4, layer_decay=1e-60, mesh={"fsdp": 2, "tensor": 2}
    )
    assert train(config, str(tmp_path), changed=["total_steps", "layer_decay"]).step == 4
    after = runs.last_saved(tmp_path).state["params"]
    moved = {line.split()[1].rstrip(":") for line in trees.difference(before, after)}
    assert moved == {
        *("head/kernel", "head/bias"),
        *("Transformer/encoder_norm/scale", "Transformer/encoder_norm/bias"),
    }
