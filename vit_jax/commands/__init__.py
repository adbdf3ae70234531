"""The commands of `vit_jax`: for each its purpose, its arguments and what it runs."""

from vit_jax.commands.benchmark import BENCHMARK
from vit_jax.commands.checks import DIFF, VERIFY
from vit_jax.commands.command import Command
from vit_jax.commands.completion import COMPLETION
from vit_jax.commands.data import PACK
from vit_jax.commands.demo import DEMO
from vit_jax.commands.export import EXPORT
from vit_jax.commands.finetune import FINETUNE
from vit_jax.commands.pictures import REPORT, VISUALIZE
from vit_jax.commands.predict import PREDICT
from vit_jax.commands.runs import EVALUATE, TRAIN
from vit_jax.commands.texts import RETRIEVE, ZEROSHOT
from vit_jax.commands.weights import CONVERT, INSPECT, MODELS

__all__ = ["COMMANDS", "Command"]

COMMANDS = (
    *(FINETUNE, TRAIN, EVALUATE, ZEROSHOT, RETRIEVE, REPORT, VERIFY, DIFF),
    *(PREDICT, VISUALIZE, DEMO, MODELS, INSPECT, CONVERT, EXPORT),
    *(PACK, BENCHMARK, COMPLETION),
)
