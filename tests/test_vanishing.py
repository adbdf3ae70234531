"""Images that break or vanish while a run reads them: its error, and then the same bits."""

import numpy as np
import pytest

from tests import runs
from tests.data.pictures import encoded, noise, write
from vit_jax.data import decoding, pipeline
from vit_jax.data.folder import open_folder
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import DataError
from vit_jax.inspecting.divergence import compare
from vit_jax.mesh import batch_sharding
from vit_jax.records.loggers import Console, Recorder
from vit_jax.train import train

PICTURES = {
    f"{split}/{name}/{i}.png": encoded(noise(8, 8, seed=i))
    for split, count in (("train", 12), ("test", 4))
    for name in ("cat", "dog")
    for i in range(count)
}


def _train(root, workdir):
    """Streams the images from their files, in epochs of three steps."""
    config = runs.tiny_config(
        dataset=str(root), batch=8, total_steps=32, eval_every=32, checkpoint_every=2,
        cache_bytes=0, state_digests=True,
    )  # fmt: skip
    return train(config, str(workdir), Console(quiet=True))


def _cut(path):
    path.write_bytes(path.read_bytes()[:40])


def _remove(path):
    path.unlink()


def _remove_source(path):
    path.parents[2].rename(path.parents[3] / "elsewhere")


@pytest.mark.slow  # five runs
def test_a_source_that_breaks_is_named_and_the_run_goes_on_from_its_place(tmp_path, monkeypatch):
    root = write(tmp_path / "photos", PICTURES)
    _train(root, tmp_path / "whole")
    push, victim = Recorder.push, root / "train" / "dog" / "7.png"
    resumed = 0
    for step, damage in ((3, _cut), (13, _remove), (23, _remove_source)):

        def damaging(self, now, measured, step=step, damage=damage):
            push(self, now, measured)
            if now == step:
                damage(victim)

        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "push", damaging)
            with pytest.raises(DataError, match=rf"^{root}/(train/)?") as error:
                _train(root, tmp_path / "cut")
        assert error.value.exit_code == 3
        assert damage is _remove_source or str(victim) in str(error.value)
        saved = [int(path.name) for path in (tmp_path / "cut/checkpoints").glob("[0-9]*")]
        assert max(saved) >= resumed
        resumed = max(saved)
        if damage is _remove_source:
            (tmp_path / "elsewhere").rename(root)
        write(root, PICTURES)
    _train(root, tmp_path / "cut")
    found = compare(tmp_path / "cut", tmp_path / "whole")
    assert not found.differs, found.lines


def test_a_thread_that_dies_is_an_error_and_no_wait(tmp_path, monkeypatch):
    """Whatever goes wrong in a thread that decodes reaches the loop, and nothing hangs."""
    root = write(tmp_path / "photos", PICTURES)
    source = open_folder(root, "train")
    loading = pipeline.Loading(
        Preprocess((8, 8)), batch_sharding(runs.one_device_mesh()), threads=3, crop_area=(0.5, 1.0)
    )

    def die(*_, **__):
        raise MemoryError("no room for pixels")

    monkeypatch.setattr(decoding, "training_crop", die)
    with pytest.raises(MemoryError, match="no room"):
        next(pipeline.Feed(source, 8, loading).training(0, 5))
    monkeypatch.undo()
    batch = next(pipeline.Feed(source, 8, loading).training(0, 5))
    assert np.asarray(batch["label"]).shape == (8,)
