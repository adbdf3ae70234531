"""Every setting of a run: its default, what it means and what it may be, in one place.

Keys with the names of the official repository mean what they meant there.
"""

from vit_jax.settings.data import DATA
from vit_jax.settings.model import MODEL
from vit_jax.settings.rules import Key
from vit_jax.settings.texts import TEXTS
from vit_jax.settings.training import TRAINING

KEYS: dict[str, Key] = {**DATA, **MODEL, **TEXTS, **TRAINING}
MODEL_FIELDS = tuple(path for path in MODEL if path.startswith("model."))

# Official keys that nothing is left to do for, with the reason: accepted and dropped.
RETIRED = {
    "shuffle_buffer": "every epoch is a full permutation and needs no buffer",
    "trainer": "the sub-command says what to run",
    "model_type": "the name of the model says it",
    "log_config": "settings are always written to config.json",
}

# {field of the encoder: setting of its value in each layer, where they differ}
BY_LAYER = {"num_heads": "heads_by_layer", "drop_path_rate": "drop_path_by_layer"}

# What pretrained weights decide where the settings do not.
FROM_WEIGHTS = (*MODEL_FIELDS, "pp.antialias", "pp.interpolation", "pp.mean", "pp.std")
# What the training images decide where neither they nor the settings do, with pp.from_data.
FROM_DATA = ("pp.mean", "pp.std")

# What may differ between a workdir and the command that resumes it: no number it reports depends
# on these (only how often it reports some), or (mesh, deterministic) only by the order of float
# additions.
HARMLESS = frozenset({
    "bad_images_limit",
    "decode_threads",
    "tfds_data_dir",
    "tfds_manual_dir",
    "prefetch",
    "logits_bytes",
    "batch_eval",
    "progress_every",
    "eval_every",
    "checkpoint_every",
    "nonfinite",
    "nonfinite_limit",
    "nonfinite_row_limit",
    "state_digests",
    "keep_checkpoints",
    "keep_every",
    "keep_best",
    "failed_saves_limit",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "deterministic",
    "report",
    "trackers",
})  # fmt: skip

# What the saved state is made of: a run cannot go on with another one, whoever asks for it.
FIXED = frozenset({
    *MODEL_FIELDS,
    *(path for path in TEXTS if path.startswith("text.")),
    "task",
    "lock_image",
    "locked_dtype",
    "model_or_filename",
    "pretrained_dir",
    "num_classes",
    "optimizer",
    "optim_dtype",
    "train_only",
})  # fmt: skip
