"""What a config of images with captions describes, built: devices, data and model."""

from pathlib import Path

import jax

from vit_jax import trees
from vit_jax.captions import CaptionTokens, Texts, open_texts
from vit_jax.config import Config, changed, flatten
from vit_jax.data.datasets import ARRAYS
from vit_jax.errors import ConfigError
from vit_jax.experiment import (
    Arrays,
    Experiment,
    check_batch,
    check_classes,
    evaluation_feed,
    make_preprocess,
    steps_of,
    training_feed,
)
from vit_jax.finetune import weights_of
from vit_jax.mesh import check_split, make_mesh
from vit_jax.models.inputs import example_inputs
from vit_jax.pair_model import make_pair_model
from vit_jax.settings import KEYS


def build_pairs(
    config: Config, arrays: Arrays | None = None, vocabulary: Path | None = None
) -> Experiment:
    """Opens the devices, the data, the tokenizer and the model that a config describes.

    Args:
      config: all settings, with `task` "contrast".
      arrays: {split: source} where `config.dataset` is "arrays".
      vocabulary: a copy of the tokenizer's file, which is taken where it exists.

    Raises:
      ConfigError, DataError, CheckpointError: what does not exist, or does not fit together.
    """
    _check(config)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    check_batch(config, mesh)
    preprocess = make_preprocess(config)
    texts = open_texts(config, arrays, vocabulary)
    model = make_pair_model(config, texts.tokenizer.vocab_size)
    tokens = CaptionTokens(texts.train, texts.tokenizer, config.seed)
    train, test = _sources(config, texts)
    given = changed(config, {"dataset": ARRAYS})
    if precomputed(config):
        given = changed(given, {"cache_bytes": 0})  # images are seen once
    train_feed = training_feed(given, mesh, preprocess, train, tokens)
    test_feed = evaluation_feed(given, mesh, preprocess, test)
    check_classes(test_feed, texts.train.class_names, config.pp.test)
    shapes = jax.eval_shape(
        model.init, jax.random.PRNGKey(0), *example_inputs(model, preprocess.size)
    )
    flat = {path: tuple(leaf.shape) for path, leaf in trees.flatten(shapes["params"]).items()}
    check_split(mesh, flat)
    total = steps_of(config, len(train_feed.source))
    return Experiment(config, mesh, model, preprocess, train_feed, test_feed, total, texts)


def precomputed(config: Config) -> bool:
    """Returns whether the vectors of images are computed once, before training."""
    return config.lock_image and config.precompute and not _alters(config)


def _alters(config: Config) -> bool:
    """Returns whether training images are augmented, so that they differ from epoch to epoch."""
    flat = flatten(config)
    return any(flat[key] != KEYS[key].default for key in KEYS if key.startswith("augment."))


def _sources(config: Config, texts: Texts) -> tuple[Arrays, Arrays]:
    """Returns what to train on, and to evaluate on: classes where there are any, else pairs."""
    test = getattr(texts.test.pairs, "images", texts.test) if texts.templates else texts.test
    return {config.pp.train: texts.train}, {config.pp.test: test}


def _check(config: Config) -> None:
    if config.lock_image and weights_of(config) is None:
        raise ConfigError(
            "config.lock_image=True: the image tower has no weights to keep, and would stay as it "
            "is at random; give config.model_or_filename, or config.lock_image=false"
        )
    if config.pp.from_data:
        raise ConfigError(
            "config.pp.from_data=True and config.task='contrast': give config.pp.mean and "
            "config.pp.std; pretrained weights bring theirs"
        )
