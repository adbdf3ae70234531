"""The score of a model on a split: every example counted exactly once."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax import trees
from vit_jax.data.filling import ahead
from vit_jax.data.pipeline import Batch, Feed
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.real_labels import Valid, read_real_labels
from vit_jax.data.stamps import listing
from vit_jax.experiment import Arrays, check_classes, evaluation_feed, open_split
from vit_jax.mesh import mesh_as_trained, replicated, sent_in_shares, with_split_batch
from vit_jax.pretrained import Trained
from vit_jax.records import metrics
from vit_jax.records.scores import Outcomes, gathered
from vit_jax.runtime import memory, processes
from vit_jax.runtime.watchdog import watched


class Evaluator:
    """Scores variables on one split, compiled once.

    Args:
      model: `model(images, train=False)` → logits (b, k).
      feed: the split.
      preprocess: what the model expects of its images.

    Attributes:
      rows: the compiled part: `rows(variables, batch)` → `metrics.outcomes` of the batch and its
        `mask`, (b,) each, the same in every process.
    """

    def __init__(self, model: nn.Module, feed: Feed, preprocess: Preprocess):
        self._feed = feed

        def rows(variables: trees.Tree, batch: Batch) -> dict[str, jax.Array]:
            images = preprocess.normalize(preprocess.on_device(batch["image"]))
            logits = jnp.asarray(model.apply(variables, images, train=False))
            return {**metrics.outcomes(logits, batch["label"]), "mask": batch["mask"]}

        mesh = feed.loading.sharding.mesh
        self.rows = jax.jit(with_split_batch(mesh, rows), out_shardings=replicated(mesh))

    def __call__(self, variables: trees.Tree) -> Outcomes:
        """Returns what became of every example; images that could not be read are not among them.

        A few numbers an example cross to the host, and are added there as exact counts and in
        double precision: scores depend neither on the batch nor on the devices.
        """
        made = (self.rows(variables, batch) for batch in watched(self._feed.evaluation()))
        # One ahead: were all dispatched at once, the whole split's images would queue in memory.
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        return gathered(fetched, len(self._feed.source.class_names), self._feed.scored)


def evaluate_run(trained: Trained, arrays: Arrays | None = None) -> Outcomes:
    """Scores a trained model on the test split of the config it was trained with.

    Every process of a job scores its share of each batch, and gets all outcomes. Parameters lie in
    shares as in training, as far as the devices at hand allow: what needed them still fits.

    Args:
      trained: the model.
      arrays: {"test": source} where that config's dataset is "arrays".

    Raises:
      DataError: the data is not there, or has other classes than the model.
      ConfigError: a batch takes more memory than there is, or processes see other data.
    """
    mesh = mesh_as_trained(trained.config.mesh.fsdp, trained.config.mesh.tensor)
    feed = evaluation_feed(trained.config, mesh, trained.preprocess, arrays)
    check_classes(feed, trained.class_names, f"{trained.config.dataset} {trained.config.pp.test}")
    listed = f"{len(feed.source)} images, listed as {listing(feed.source)}"
    processes.check_agreed(trained.config.dataset, listed)
    variables = sent_in_shares(mesh, trained.variables)
    evaluator = Evaluator(trained.model, feed, trained.preprocess)
    with memory.for_evaluation(trained.config):
        return evaluator(variables)


def real_labels(trained: Trained, path: str, arrays: Arrays | None = None) -> Valid:
    """Returns the valid classes of each image of the test split; see `read_real_labels`."""
    source = open_split(trained.config, trained.config.pp.test, arrays, keep=False)
    return read_real_labels(path, source)
