"""What is changed in the commands of the pages, so that all of them run within minutes.

One table, and no other place: whoever reads that "every command is run" reads here how.
"""

import importlib.util
import re

# Flags that a command gets after its own.
SHORT = {
    "train": [
        "--config.total_steps=2", "--config.warmup_steps=1", "--config.batch=16",
        "--config.batch_eval=16", "--config.eval_every=2", "--config.checkpoint_every=2",
        "--config.progress_every=1", "--config.report=False", "--config.accum_steps=1",
    ],
    "finetune": [
        "--config.total_steps=2", "--config.batch=16", "--config.eval_every=2",
        "--config.checkpoint_every=2", "--config.report=False",
    ],
    "benchmark": [
        "--config.batch=8", "--config.accum_steps=1", "--seconds=0.1",
    ],
}  # fmt: skip
# Left as the page has them, where it has them.
KEPT = ("--config.report", "--seconds")
SMALL = [
    "--config.model.hidden_size=16", "--config.model.transformer.num_layers=1",
    "--config.model.transformer.num_heads=2", "--config.model.transformer.mlp_dim=16",
]  # fmt: skip
# The official recipe names an architecture; the stand-in for its weights is another, and decides.
STAND_IN = [
    "--config.model.model_name=None", "--config.pretrained_dir=None",
    "--config.model_or_filename=vit_b16",
]  # fmt: skip
FROM_SCRATCH = ("digits", "folder", "compact_cifar", "cats_dogs", "gated_convstem")
SMALL_TEXT = [
    "--config.text.hidden_size=16", "--config.text.num_layers=1", "--config.text.num_heads=2",
    "--config.text.mlp_dim=16",
]  # fmt: skip
# Commands with one of these in them are parsed, wherever they stand, and never run.
NEVER = (
    *("pip install", "pytest", "sphinx-build", "git clone", "hf auth", "--push-to-hub"),
    "vit_jax demo",  # which serves until it is stopped
    *("sbatch", "srun", "gcloud", "kubectl", "--coordinator", "--distributed"),
)
# Parsed where the extra is not installed.
EXTRAS = {"trackers=tensorboard": "tensorboardX", "configs/lit.py": "tokenizers"}
# Exit codes that are no failure: `diff` ends with 1 where runs differ.
ENDS = {"diff": (0, 1)}
# Runs that a page takes for granted, made beforehand.
GRANTED = {
    "runs/digits": "train --config=digits --workdir=runs/digits",
    "runs/photos": "train --config=finetune:vit_ti16,PHOTOS --workdir=runs/photos",
    "runs/scratch": "train --config=folder:PHOTOS --workdir=runs/scratch",
    **{
        f"runs/{name}": f"train --config=digits --workdir=runs/{name} --config.seed={name[-1]}"
        for name in ("a_seed0", "a_seed1", "b_seed0")
    },
}


def shortened(words: list[str]) -> list[str]:
    """Returns the flags that a command gets besides its own."""
    name = "train" if words[0].startswith("--config") else words[0]  # the official command
    if name not in SHORT:
        return []
    said = " ".join(words)
    named = re.search(r"--config=(?:configs/)?([\w.]+?)(?:\.py)?(?=[:\s]|$)", said)
    recipe = named[1] if named else ""
    flags = STAND_IN * (recipe == "vit")
    if words[:2] == ["benchmark", "plan"]:
        return flags  # computes on paper, and at once
    flags += [
        flag
        for flag in SHORT[name]
        if not any(kept in said and flag.startswith(kept) for kept in KEPT)
    ]
    if "--config.epochs=" in said:
        flags.append("--config.epochs=None")  # the steps count
    return flags + SMALL * (recipe in FROM_SCRATCH) + SMALL_TEXT * (recipe == "lit")


def never_run(command: str) -> bool:
    """Whether a command is to be parsed and not run."""
    lacking = [word for word, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    return any(word in command for word in (*NEVER, *lacking))


def made_beforehand(text: str) -> list[str]:
    """Returns the commands that make what a page takes for granted."""
    joined = re.sub(r"\\\n\s*", "", text)
    trained = (one for one in joined.splitlines() if re.search("vit_jax (train|finetune)", one))
    own = " ".join(line for line in trained if not never_run(line))
    return [
        command
        for name, command in GRANTED.items()
        if name in text and f"--workdir={name}" not in own
    ]
