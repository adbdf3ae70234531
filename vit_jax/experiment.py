"""What a config describes, built: devices, data and model."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from vit_jax.captions import Texts
from vit_jax.config import Config, changed, flatten, given
from vit_jax.data.augment_host import alter
from vit_jax.data.augmentation import make_augmentation
from vit_jax.data.datasets import open_dataset
from vit_jax.data.holding import hold
from vit_jax.data.imagenet import in_words
from vit_jax.data.pipeline import Feed, Loading, Texting
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.reading import Reader
from vit_jax.data.sources import Source
from vit_jax.data.stamps import listing
from vit_jax.data.statistics import colour_statistics
from vit_jax.errors import ConfigError, DataError
from vit_jax.mesh import batch_sharding, batch_shards, check_split, make_mesh
from vit_jax.models.scanned import ScannedEncoder
from vit_jax.models.summary import check_attention_kernel
from vit_jax.models.vit import VisionTransformer
from vit_jax.models.zoo import Model, create_model
from vit_jax.origin import shapes_of
from vit_jax.runtime import gpu
from vit_jax.settings import BY_LAYER, FROM_DATA
from vit_jax.settings.rules import STEPS

Arrays = Mapping[str, Source]  # splits passed from Python, by name


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a run needs but its state.

    Attributes:
      config: all settings.
      mesh: the devices.
      model: `model(images, train=…)` → logits (b, k).
      preprocess: what the model expects of its images.
      train, test: the two splits, as batches.
      total_steps: steps of the optimiser.
      texts: those of a run on images with captions; None of one that classifies.
    """

    config: Config
    mesh: Mesh
    model: Model
    preprocess: Preprocess
    train: Feed
    test: Feed
    total_steps: int
    texts: Texts | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.train.source.class_names

    @functools.cached_property
    def shown_names(self) -> tuple[str, ...]:
        """Names of the classes for people to read: words in the place of WordNet numbers."""
        return in_words(self.class_names, Path(self.config.dataset).expanduser() / "words.txt")

    @functools.cached_property
    def train_listing(self) -> str | None:
        """A digest of names and labels of the training images; None where it is not known."""
        return listing(self.train.source)

    def data(self) -> str:
        """Says what the data is, to compare: sizes and listings of the splits, and the classes."""
        sizes = f"{len(self.train.source)} and {len(self.test.source)} images"
        listings = f"listed as {self.train_listing} and {listing(self.test.source)}"
        return f"{sizes} of {', '.join(self.class_names)}, {listings}"


def build(config: Config, arrays: Arrays | None = None) -> Experiment:
    """Opens the devices, the data and the model that a config describes.

    Args:
      config: all settings.
      arrays: {split: source} where `config.dataset` is "arrays".

    Raises:
      ConfigError, DataError: what does not exist, or does not fit together.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    check_batch(config, mesh)
    config = with_statistics(config, arrays)
    preprocess = make_preprocess(config)
    train = training_feed(config, mesh, preprocess, arrays)
    test = evaluation_feed(config, mesh, preprocess, arrays)
    names = train.source.class_names
    check_classes(test, names, config.pp.test)
    if config.num_classes is not None and config.num_classes != len(names):
        raise DataError(
            f"config.num_classes={config.num_classes}: {config.dataset} has {len(names)} classes "
            f"({_some(names)}); leave num_classes out, or name another dataset"
        )
    model = make_model(config, len(names))
    check_attention_kernel(config.model.transformer.attention.kernel, model, preprocess.size)
    if mesh.size > mesh.shape["data"]:  # else nothing is to be split, and no shape need be found
        check_split(mesh, shapes_of(model, preprocess.size))
    total = steps_of(config, len(train.source))
    return Experiment(config, mesh, model, preprocess, train, test, total)


def steps_of(config: Config, examples: int) -> int:
    """Returns the steps of a run, from `total_steps` or `epochs`.

    Raises:
      ConfigError: the warm-up does not end before, or there are more than devices can count.
    """
    total = config.total_steps
    if total is None:
        wanted = config.epochs * examples / config.batch
        if not STEPS.allows(max(1.0, wanted)):
            raise ConfigError(f"config.epochs={config.epochs:g}: {wanted:.3g} steps {STEPS.text}")
        total = max(1, round(wanted))
    if config.warmup_steps >= total:
        raise ConfigError(
            f"config.warmup_steps={config.warmup_steps} must be below the {total} steps of the run"
            f"; train longer, or warm up shorter: config.warmup_steps={total // 10} is a tenth"
        )
    return total


def make_preprocess(config: Config) -> Preprocess:
    """Returns the preprocessing that `pp.*` describes."""
    pp = config.pp
    names = ("antialias", "interpolation", "mean", "std")
    said = {name: pp[name] for name in names if pp[name] is not None}
    return Preprocess.from_dict({"size": (pp.crop, pp.crop), "resize": pp.resize, **said})


def with_statistics(config: Config, arrays: Arrays | None = None) -> Config:
    """Returns the config with `pp.mean` and `pp.std` of the training images, if it asks for them.

    Every process reads the same images, and finds the same.
    """
    now = flatten(config)
    missing = [key for key in FROM_DATA if now[key] is None]
    if not config.pp.from_data or not missing:
        return config
    source = open_split(config, config.pp.train, arrays, keep=False)
    reader = Reader(source, _bad_limit(config))
    found = colour_statistics(reader, len(source), make_preprocess(config), config.decode_threads)
    values = zip(FROM_DATA, found, strict=True)
    return changed(config, {key: value for key, value in values if key in missing})


def make_model(config: Config, num_classes: int) -> Model:
    """Returns the model of `config.model`, checked against the image size without computing.

    Raises:
      ConfigError: an unknown name, a missing size, or sizes that do not fit together.
    """
    if config.task != "classify":
        raise ConfigError(
            f"config.task={config.task!r}: this command knows classifiers alone; vit_jax train and "
            "vit_jax evaluate know other tasks"
        )
    fields = model_fields(config)
    name = fields.pop("model_name", None)
    model = create_model(name, num_classes, dtype=compute_dtype(config), **fields)
    images = jax.ShapeDtypeStruct((1, config.pp.crop, config.pp.crop, 3), jnp.float32)
    try:
        logits, _ = jax.eval_shape(model.init_with_output, jax.random.PRNGKey(0), images)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.model: {error}") from error
    if isinstance(model, VisionTransformer) and logits.ndim != 2:
        raise ConfigError(
            f"config.model.classifier={model.classifier!r} gives logits for each token; training "
            "needs one row an image: 'token' or 'gap', or a config.model.pool"
        )
    return model


def compute_dtype(config: Config) -> Any:
    """Returns the dtype of computation: bfloat16 where the device has matrix units for it."""
    return jnp.dtype(config.dtype or gpu.fast_dtype())


def model_fields(config: Config) -> dict[str, Any]:
    """Returns those fields of `create_model`, its name among them, that the settings give."""
    fields = given(config.model)
    if fields.pop("scan_blocks", False):
        fields["encoder"] = ScannedEncoder
    for field, name in BY_LAYER.items():
        if by_layer := fields.get("transformer", {}).pop(name, None):
            fields["transformer"][field] = by_layer
    return fields


def training_feed(
    config: Config,
    mesh: Mesh,
    preprocess: Preprocess,
    arrays: Arrays | None = None,
    texts: Texting | None = None,
) -> Feed:
    """Returns the training split as batches of `config.batch`, with texts where they are given.

    Where the host alters images, none are kept on the device.
    """
    plan = make_augmentation(config.augment.to_dict())
    source = open_split(config, config.pp.train, arrays, keep=not plan.on_host)
    loading = dataclasses.replace(
        _loading(config, mesh, preprocess),
        crop_area=config.augment.crop_area,
        crop_rule=config.augment.crop_rule,
        alter=functools.partial(alter, plan) if plan.on_host else None,
        balanced=config.sampling == "balanced",
        repeats=config.augment.repeats,
        texts=texts,
    )
    return Feed(source, config.batch, loading)


def evaluation_feed(
    config: Config, mesh: Mesh, preprocess: Preprocess, arrays: Arrays | None = None
) -> Feed:
    """Returns the test split as batches of about `config.batch_eval`.

    They are no larger than the split, and filled up to a multiple of the devices that share them;
    the score depends on neither. With `config.eval_drop_remainder` they are as large as asked.

    Raises:
      ConfigError: with `eval_drop_remainder`, if no batch would be full.
    """
    source, shards = open_split(config, config.pp.test, arrays), batch_shards(mesh)
    batch = -(-min(config.batch_eval, len(source)) // shards) * shards
    if config.eval_drop_remainder and batch != config.batch_eval:
        raise ConfigError(
            f"config.batch_eval={config.batch_eval} with config.eval_drop_remainder: must be at "
            f"most the {len(source)} images of the split, and divisible by the {shards} devices "
            "that share a batch"
        )
    loading = _loading(config, mesh, preprocess)
    loading = dataclasses.replace(loading, drop_remainder=config.eval_drop_remainder)
    return Feed(source, batch, loading)


def open_split(
    config: Config, split: str, arrays: Arrays | None = None, *, keep: bool = True
) -> Source:
    """Returns a split of the dataset; with `keep`, in memory if it fits in `cache_bytes`."""
    places = config.tfds_data_dir, config.tfds_manual_dir
    source = open_dataset(config.dataset, split, arrays, *places)
    if not keep:
        return source
    return hold(source, config.cache_bytes, config.decode_threads, _bad_limit(config))


def _loading(config: Config, mesh: Mesh, preprocess: Preprocess) -> Loading:
    return Loading(
        preprocess,
        batch_sharding(mesh),
        seed=config.seed,
        threads=config.decode_threads,
        prefetch=config.prefetch,
        resident_limit=config.cache_bytes,
        bad_limit=_bad_limit(config),
    )


def _bad_limit(config: Config) -> int | None:
    return config.bad_images_limit if config.bad_images == "skip" else None


def check_batch(config: Config, mesh: Mesh | AbstractMesh) -> None:
    """Raises ConfigError if a part of the batch cannot be split evenly over the devices."""
    shards, part = batch_shards(mesh), config.batch // config.accum_steps
    if part % shards:
        raise ConfigError(
            f"config.batch={config.batch} over config.accum_steps={config.accum_steps} gives parts "
            f"of {part}, which must be divisible by the {shards} devices that split them"
        )


def check_classes(feed: Feed, expected: Sequence[str], what: str) -> None:
    """Raises DataError if a split has other classes than the model was made for."""
    found = feed.source.class_names
    if tuple(found) != tuple(expected):
        raise DataError(
            f"{what}: has {len(found)} classes ({_some(found)}), but the model has "
            f"{len(expected)} ({_some(expected)}); they must be the same"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
