"""From what a user names to a file: folders, and names that mean nothing."""

import numpy as np
import pytest

from vit_jax.checkpoints.arrays import write_npz
from vit_jax.checkpoints.resolve import resolve
from vit_jax.errors import CheckpointError

WEIGHTS = {"embedding/kernel": np.zeros((4, 4, 3, 8), np.float32)}
OTHERS = {"images": np.zeros(3, np.float32)}


def test_a_folder_means_the_one_file_of_weights_in_it(tmp_path):
    write_npz(tmp_path / "weights.npz", WEIGHTS)
    write_npz(tmp_path / "expected.npz", OTHERS)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "photo.png").write_bytes(b"")
    assert resolve(tmp_path).path == tmp_path / "weights.npz"


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors", "model.safetensors.index.json"])
def test_the_usual_names_win(name, tmp_path):
    write_npz(tmp_path / "a.npz", WEIGHTS)
    write_npz(tmp_path / name, WEIGHTS)
    located = resolve(tmp_path)
    assert located.path == (tmp_path / name if name.endswith("npz") else tmp_path)


def test_of_several_files_none_is_guessed(tmp_path):
    for i in range(7):
        write_npz(tmp_path / f"{i}.npz", WEIGHTS)
    with pytest.raises(CheckpointError, match=r"holds 0\.npz, .*4\.npz and 2 more; name one"):
        resolve(tmp_path)
