"""Trained models back from where they lie, ready to be evaluated or to predict."""

import dataclasses
from pathlib import Path

from flax import linen as nn

from vit_jax import trees
from vit_jax.config import Config, default_config
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.experiment import make_model
from vit_jax.recipes import merge
from vit_jax.workdir import Workdir, find_run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      model: `model.apply(variables, images, train=False)` → logits (b, k).
      variables: `params` (the running average where the run kept one) and `batch_stats`.
      preprocess: what the model expects of its images.
      class_names: names of the k classes, in the order of the logits.
      config: the settings it was trained with.
      workdir, step: where it comes from.
    """

    model: nn.Module
    variables: dict[str, trees.Tree]
    preprocess: Preprocess
    class_names: tuple[str, ...]
    config: Config
    workdir: Workdir
    step: int


def load_run(path: str | Path) -> Trained:
    """Reads a run from its checkpoint alone; its config file and its data are not needed.

    Args:
      path: a workdir, for the newest checkpoint that is intact, or WORKDIR/checkpoints/STEP.

    Raises:
      CheckpointError: there is none, or it cannot be read.
    """
    from vit_jax.checkpoints.store import Store  # Orbax takes a second to import

    workdir, step = find_run(path)
    with Store(workdir.checkpoints) as store:
        restored = store.restore_subtree("params", "batch_stats", "ema", step=step)
    if restored is None:
        raise CheckpointError(f"{path}: holds no checkpoint yet; train it first")
    state, metadata = restored.state, restored.metadata
    config = merge(default_config(), metadata["config"], origin=str(workdir.checkpoints))
    names = tuple(metadata["class_names"])
    variables = {
        "params": state.get("ema") or state["params"],
        "batch_stats": state.get("batch_stats", {}),
    }
    return Trained(
        make_model(config, len(names)),
        variables,
        Preprocess.from_dict(metadata["preprocess"]),
        names,
        config,
        workdir,
        restored.step,
    )
