"""What the sides of `throughput.py` compute: vit_jax, the official model, and PyTorch's.

Each is made in the process that runs it, and imports what it needs when it is made.
"""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from peers import official, plain_flax, torch_vit

CLASSES = 1000
# The peers in PyTorch have none either, and some official fields (L/16, H/14) do.
NO_DROPOUT = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
PURE = "pure"  # compiled, its parameters themselves in bfloat16
COMPILED = {"eager": None, "compiled": "default", PURE: "default"}
COMPILED |= {"autotuned": "max-autotune-no-cudagraphs"}


class Measured(NamedTuple):
    """What a side gives: a call, and how to wait for it, and to ask what it held in memory."""

    call: Callable[[], Any]
    wait: Callable[[Any], Any]
    peak_bytes: Callable[[], int | None]
    parameters: int
    versions: dict[str, str]


def ours(options: argparse.Namespace) -> Measured:
    """Returns the step of `vit_jax train`, or the forward pass of `vit_jax benchmark infer`."""
    from importlib.metadata import version

    import jax

    from vit_jax import trees
    from vit_jax.benchmark import infer, train, workload
    from vit_jax.checkpoints.store import Store
    from vit_jax.runtime import memory

    experiment = workload.random_experiment(configured(options))
    if options.mode == "train":
        with Store(Path("unused")) as store:  # nothing is saved
            work = train.training_work(experiment, store)
    else:
        work = infer.inference_work(experiment)
    params = work.state["params"] if options.mode == "infer" else work.state.params
    parameters, state = trees.count(params), [work.state]

    def call() -> Any:
        state[0], result = work.step(state[0])
        return result

    device = {"device": jax.devices()[0].device_kind, "jax": version("jax")}
    return Measured(call, jax.block_until_ready, memory.peak_bytes, parameters, device)


def configured(options: argparse.Namespace) -> Any:
    """Returns the settings of the run that is measured."""
    from vit_jax.config import default_config
    from vit_jax.recipes import merge

    settings = {
        "model": {"model_name": options.model, "transformer": NO_DROPOUT},
        "num_classes": CLASSES,
        "pp": {"crop": options.size},
        "batch": options.batch,
        "batch_eval": options.batch,
        "dtype": options.dtype,
        "optimizer": options.optimizer,
        "optim_dtype": "float32",
        "base_lr": torch_vit.LEARNING_RATE,
        "total_steps": 1000,
        "warmup_steps": 0,
    }
    return merge(default_config(), settings, "throughput.py").lock()


def officially(options: argparse.Namespace) -> Measured:
    """Returns the same of the official model."""
    from importlib.metadata import version

    import jax

    from vit_jax.models.zoo import model_fields
    from vit_jax.runtime import memory

    fields = model_fields(options.model)
    fields["transformer"] |= NO_DROPOUT
    model = official.load_model(Path(options.peer), CLASSES, fields)
    rule = plain_flax.clipped(options.optimizer, torch_vit.LEARNING_RATE)
    rule = rule if options.mode == "train" else None
    call, parameters = official.steps(model, options.size, options.batch, rule)
    device = {"device": jax.devices()[0].device_kind, "jax": version("jax")}
    return Measured(call, jax.block_until_ready, memory.peak_bytes, parameters, device)


def theirs(options: argparse.Namespace) -> Measured:
    """Returns the same in PyTorch; the side's name is "LIBRARY WAY BACKEND"."""
    torch = importlib.import_module("torch")  # only these sides need it, and not all have it
    library, way, backend = options.side.split(" ")
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as XLA takes for float32
        torch.backends.cudnn.benchmark = True  # the fastest convolutions, as XLA looks for them
    model = torch_vit.make(library, sizes(options)).to(options.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randn(shape, device=options.device)
    labels = torch.randint(CLASSES, (options.batch,), device=options.device)
    model.train(options.mode == "train")
    dtype = options.dtype
    if way == PURE:
        model, images, dtype = model.bfloat16(), images.bfloat16(), "as they are"
    if COMPILED[way]:
        model = torch.compile(model, mode=COMPILED[way])
    if options.mode == "train":
        step = torch_vit.training_step(model, images, labels, options.optimizer, dtype)
    else:
        step = torch_vit.inference_step(model, images, dtype)
    forced = getattr(torch.nn.attention.SDPBackend, torch_vit.BACKENDS[backend])

    def call() -> Any:
        with torch.nn.attention.sdpa_kernel(forced):
            return step()

    found = torch_vit.versions(library)
    if options.device == "cuda":
        found["device"] = torch.cuda.get_device_name()
    return Measured(call, *torch_vit.waiting(options.device), parameters, found)


def sizes(options: argparse.Namespace) -> torch_vit.Sizes:
    """Returns what the named model is made of."""
    from vit_jax.models.zoo import model_fields

    fields = model_fields(options.model)
    encoder = fields["transformer"]
    return torch_vit.Sizes(
        pixels=options.size,
        patch=fields["patches"]["size"][0],
        width=fields["hidden_size"],
        layers=encoder["num_layers"],
        heads=encoder["num_heads"],
        hidden=encoder["mlp_dim"],
        classes=CLASSES,
    )
