"""The rules: from facts on images, weights and devices to settings, each with its reason.

Sources: [V] Dosovitskiy et al., "An image is worth 16x16 words" (arXiv:2010.11929), section 4.1 and
appendix B.1.1, and the official configs, for fine-tuning: SGD with momentum 0.9, no weight decay,
cosine, clipping at norm 1, batches of 512, rates from 0.001 to 0.06, 384 px. [B] Kolesnikov et al.,
"Big Transfer" (arXiv:1912.11370), section 3.3, the "BiT-HyperRule", for what depends on the data:
steps by the number of images, resolution by their size, mixup from 20,000 images on. [M] measured
here: benchmarks/README.md, "Zero to model".
"""

import dataclasses
import math
from typing import Any

from vit_jax.choosing.data import Facts

OFFICIAL_BATCH, OFFICIAL_RATE, OFFICIAL_SIZE = 512, 0.03, 384
# The gradient is clipped at norm 1, so that a step has about one length whatever the batch, and the
# rate need not follow it down. Of 0.0025, 0.0075, 0.02 and 0.05 this was the best at 32 [M].
SMALL_BATCH, SMALL_RATE = 256, 0.02
CPU_BATCH = 32
# [B]: (images to train on, below which; steps).
STEPS = ((20_000, 500), (500_000, 10_000), (None, 20_000))
MIXUP_FROM, MIXUP = 20_000, 0.1  # [B]
# On a CPU, where 500 steps take from a quarter of an hour to hours: 80 photographs are told apart
# after 10 steps, 2,000 within an epoch [M].
MOST_EPOCHS_ON_CPU, FEWEST_STEPS = 60, 100
FEWEST_IN_MINUTES = 20  # in which 80 photographs were told apart [M]
EVALUATIONS = 10
# Images tested take a third of the time of images trained on, which have a backward pass too.
TEST_COST, MOST_TESTING = 1 / 3, 0.2


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting, its value, and why it has it, in a line."""

    setting: str
    value: Any
    why: str


@dataclasses.dataclass(frozen=True)
class Weights:
    """What the rules ask of pretrained weights.

    Attributes:
      name: as `load_pretrained` takes it.
      size: pixels of the images they were made for.
      patch: pixels of a patch.
      any_size: whether they serve other sizes, as position embeddings can be resized.
    """

    name: str
    size: int
    patch: int
    any_size: bool


@dataclasses.dataclass(frozen=True)
class Devices:
    """What the rules ask of the devices: their kind ("cpu", "gpu", "tpu"), and how many there are.

    A batch is split among all of them.
    """

    platform: str
    count: int


def resolution(facts: Facts, weights: Weights, devices: Devices) -> Choice:
    """Pixels: officially 384, where photographs have as many and the devices are fast."""
    larger = OFFICIAL_SIZE // weights.patch * weights.patch
    if not weights.any_size:
        why = "the only size that these weights know"
    elif larger <= weights.size:
        why = "the size the weights were trained at"
    elif facts.side < OFFICIAL_SIZE:
        why = f"the weights' own; the images have no more ({facts.side} px)"
    elif devices.platform == "cpu":
        why = f"the weights' own; {larger} px take a CPU 3 times as long"
    else:
        return Choice("pp.crop", larger, f"officially; the images have as many ({facts.side} px)")
    return Choice("pp.crop", weights.size, why)


def batch(facts: Facts, devices: Devices) -> Choice:
    """Images a step: officially 512, but no more than there are; on a CPU 32."""
    if devices.platform == "cpu":
        size, why = CPU_BATCH, "a CPU gains nothing from more at once"
    elif facts.train >= OFFICIAL_BATCH:
        size, why = OFFICIAL_BATCH, "the official fine-tuning"
    else:
        size = max(CPU_BATCH, 2 ** int(math.log2(facts.train)))
        why = f"no more than the {facts.train:,} images there are"
    whole = -(-size // devices.count) * devices.count
    shared = f", shared by {devices.count} devices" if whole != size else ""
    return Choice("batch", whole, why + shared)


def steps(facts: Facts, batch_size: int, devices: Devices) -> Choice:
    """Steps of the BiT-HyperRule; on a CPU, of few images, no more than 60 epochs."""
    ruled = next(n for below, n in STEPS if below is None or facts.train < below)
    most = max(FEWEST_STEPS, round(MOST_EPOCHS_ON_CPU * facts.train / batch_size))
    if devices.platform == "cpu" and most < ruled:
        epochs = _epochs(most, batch_size, facts)
        return Choice("total_steps", most, f"{epochs}, enough for so few images on a CPU")
    why = f"BiT-HyperRule for {facts.train:,} images ({_epochs(ruled, batch_size, facts)})"
    return Choice("total_steps", ruled, why)


def steps_in(
    minutes: float | int, seconds: float | int, facts: Facts, batch_size: int, ruled: int
) -> Choice:
    """Steps that fit into so many minutes of training and testing, but no more than without.

    Args:
      minutes: the budget.
      seconds: of a step.
      facts: of the images.
      batch_size: images a step.
      ruled: steps without a budget.
    """
    fit = int(60 * minutes * (1 - MOST_TESTING) / seconds)
    epochs = _epochs(min(fit, ruled), batch_size, facts)
    if fit >= ruled:
        return Choice("total_steps", ruled, f"{epochs}; {minutes:g} minutes leave time to spare")
    return Choice(
        "total_steps", fit, f"what {minutes:g} minutes allow at {seconds:.2g} s a step ({epochs})"
    )


def learning_rate(batch_size: int) -> Choice:
    """The official rate; for small batches a third less."""
    if batch_size < SMALL_BATCH:
        return Choice("base_lr", SMALL_RATE, "measured best for small batches; officially 0.03")
    return Choice("base_lr", OFFICIAL_RATE, "the official fine-tuning")


def warmup(total_steps: int) -> Choice:
    """A tenth of the steps, at most the official 500."""
    return Choice(
        "warmup_steps",
        min(500, total_steps // 10),
        "a tenth of the steps, at most the official 500",
    )


def augmentation(facts: Facts) -> list[Choice]:
    """Crops and flips as officially; mixup where there is much data."""
    choices = [
        Choice("augment.crop_area", (0.05, 1.0), "the official random crops"),
        Choice("augment.crop_rule", "tensorflow", "and how they are drawn there"),
        Choice("augment.flip", True, "as officially; set False if left and right differ"),
    ]
    if facts.train < MIXUP_FROM:
        return choices
    why = f"BiT-HyperRule, from {MIXUP_FROM:,} images on"
    return [*choices, Choice("augment.mixup", MIXUP, why)]


def evaluations(facts: Facts, total_steps: int, batch_size: int) -> list[Choice]:
    """Ten tests and checkpoints, fewer where they would take more than a fifth of the time."""
    training = total_steps * batch_size
    affordable = MOST_TESTING / (1 - MOST_TESTING) * training / (TEST_COST * facts.test)
    count = max(1, min(EVALUATIONS, int(affordable), total_steps))
    every = -(-total_steps // count)
    why = f"{count} tests of {facts.test:,} images: at most a fifth of the time"
    if count == EVALUATIONS:
        why = "ten tests, which draw the curve of the report"
    kept = f"a run that is killed loses at most {every:,} steps"
    return [Choice("eval_every", every, why), Choice("checkpoint_every", every, kept)]


def score_spread(test: int) -> float:
    """Returns by how much a measured accuracy may be off, at 95 % and in the worst case."""
    return 1.96 * math.sqrt(0.25 / test)


def _epochs(total_steps: int, batch_size: int, facts: Facts) -> str:
    return f"{total_steps * batch_size / facts.train:,.3g} epochs"
