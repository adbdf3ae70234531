"""The score of a model on a split: every example counted exactly once."""

import collections

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax import memory, metrics, trees
from vit_jax.data.filling import ahead
from vit_jax.data.pipeline import Batch, Feed
from vit_jax.data.preprocess import Preprocess
from vit_jax.experiment import Arrays, check_classes, evaluation_feed
from vit_jax.mesh import make_mesh, replicated, with_split_batch
from vit_jax.pretrained import Trained


class Evaluator:
    """Scores variables on one split, compiled once.

    Args:
      model: `model(images, train=False)` → logits (b, k).
      feed: the split.
      preprocess: what the model expects of its images.

    Attributes:
      sums: the compiled part: `sums(variables, batch)` → the sums of `metrics.scores`.
    """

    def __init__(self, model: nn.Module, feed: Feed, preprocess: Preprocess):
        self._feed = feed

        def sums(variables: trees.Tree, batch: Batch) -> dict[str, jax.Array]:
            images = preprocess.normalize(preprocess.on_device(batch["image"]))
            logits = jnp.asarray(model.apply(variables, images, train=False))
            return metrics.scores(logits, batch["label"], batch["mask"])

        mesh = feed.loading.sharding.mesh
        self.sums = jax.jit(with_split_batch(mesh, sums), out_shardings=replicated(mesh))

    def __call__(self, variables: trees.Tree) -> dict[str, float]:
        """Returns `loss` (nats), `accuracy` and `top5_accuracy`, averaged over what is scored.

        Where images could not be read, `skipped` is their number; the others are averaged over.
        """
        totals: dict[str, float] = collections.defaultdict(float)
        made = (self.sums(variables, batch) for batch in self._feed.evaluation())
        # One ahead: were all dispatched at once, the whole split's images would queue in memory.
        for sums in ahead(made, 1):
            # In double precision on the host: counts are exact whatever the size of the split.
            for name, value in jax.device_get(sums).items():
                totals[name] += float(value)
        skipped = self._feed.scored - totals["count"]
        return metrics.averages(totals) | ({"skipped": skipped} if skipped else {})


def evaluate_run(trained: Trained, arrays: Arrays | None = None) -> tuple[dict[str, float], int]:
    """Scores a trained model on the test split of the config it was trained with.

    Args:
      trained: the model.
      arrays: {"test": source} where that config's dataset is "arrays".

    Returns:
      The scores, as `Evaluator` gives them, and the number of images.

    Raises:
      DataError: the data is not there, or has other classes than the model.
      ConfigError: a batch takes more memory than there is.
    """
    mesh = make_mesh()  # all devices at hand, whatever the run was trained on
    feed = evaluation_feed(trained.config, mesh, trained.preprocess, arrays)
    check_classes(feed, trained.class_names, f"{trained.config.dataset} {trained.config.pp.test}")
    variables = jax.device_put(trained.variables, replicated(mesh))
    evaluator = Evaluator(trained.model, feed, trained.preprocess)
    with memory.for_evaluation(trained.config):
        return evaluator(variables), feed.scored
