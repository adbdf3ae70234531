"""Settings of the optimisation, the devices and the run."""

from vit_jax.settings.rules import (
    BELOW_ONE,
    DECAY,
    NAMES,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    ROWS,
    SEED,
    STEPS,
    Key,
    Rule,
    any_of,
    one_of,
)

# By which the best checkpoint can be told: of classes, and of images with captions.
CLASS_SCORES = ("accuracy", "top5_accuracy", "macro_f1", "weighted_f1", "loss")
RECALLS = tuple(
    f"{way}_recall_{count}" for way in ("image_to_text", "text_to_image") for count in (1, 5, 10)
)

TRAINING: dict[str, Key] = {
    "seed": Key(0, "Seed of initialisation, order, augmentation and dropout.", SEED),
    # Optimisation
    "total_steps": Key(None, "Steps of the optimiser; or give epochs.", STEPS, int),
    "epochs": Key(None, "Passes over the training split; or give total_steps.", POSITIVE, float),
    "batch": Key(512, "Images a step, over all devices and accumulated parts.", ROWS),
    "accum_steps": Key(
        1,
        "Parts a batch is computed in, to save memory; dropout, mixing and batch statistics are "
        "those of each part.",
        POSITIVE,
    ),
    "optimizer": Key(
        "sgd",
        "'sgd' with momentum is the official fine-tuning.",
        one_of("sgd", "adamw", "lion", "lamb"),
    ),
    "optim_dtype": Key(
        "bfloat16",
        "Dtype of the (first) momentum; the second is float32: bfloat16 would lose its changes.",
        one_of("float32", "bfloat16"),
    ),
    "base_lr": Key(0.03, "Learning rate after the warm-up.", RATE),
    "decay_type": Key(
        "cosine", "Schedule after the warm-up.", one_of("cosine", "linear", "constant")
    ),
    "warmup_steps": Key(500, "Steps over which the learning rate rises from 0.", NOT_NEGATIVE),
    "weight_decay": Key(
        0.0, "Decoupled decay of kernels; biases, norms and tokens have none.", DECAY
    ),
    "beta1": Key(0.9, "Decay of the first moment; the momentum of SGD.", BELOW_ONE),
    "beta2": Key(
        None,
        "Decay of the second moment of the Adam family, and of Lion's only one. None is 0.999; "
        "0.99 for Lion.",
        BELOW_ONE,
        float,
    ),
    "layer_decay": Key(
        None,
        "Layer-wise decay of the learning rate, for fine-tuning: each block has this share of the "
        "rate of the one behind it, the head all of it; weight decay falls alike. None is off.",
        Rule(lambda value: 0 < value <= 1, "must be above 0 and at most 1"),
        float,
    ),
    "train_only": Key(
        None,
        "Parts of the model that are trained, by their names at the top of its parameters, such as "
        "('head',); the others stay as the weights have them, without gradient and optimiser "
        "state. None trains all.",
        NAMES,
        tuple,
    ),
    "grad_norm_clip": Key(1.0, "Largest global norm of the gradient; 0 is off.", NOT_NEGATIVE),
    "loss": Key(
        "softmax",
        "'softmax' cross-entropy; or 'sigmoid', one yes or no for each class, as DeiT III trains: "
        "both classes of a mixed image are a yes. "
        "Test losses are softmax cross-entropies always.",
        one_of("softmax", "sigmoid"),
    ),
    "label_smoothing": Key(0.0, "Share of a label spread over all classes.", BELOW_ONE),
    "ema_decay": Key(
        0.0, "Running average of the parameters, evaluated in their place; 0 is off.", BELOW_ONE
    ),
    # Devices
    "mesh.data": Key(
        None, "Devices that split the batch; None takes all that are left.", POSITIVE, int
    ),
    "mesh.fsdp": Key(
        1, "Devices that split the batch and hold the parameters in shares.", POSITIVE
    ),
    "mesh.tensor": Key(1, "Devices that share the heads and the MLP of each block.", POSITIVE),
    "deterministic": Key(
        False,
        "On a GPU, leave out kernels that may give other last bits each time, so that a run that "
        "is resumed is the run that was never stopped; slower. CPU and TPU have none.",
    ),
    # The run
    "batch_eval": Key(512, "Images a step of evaluation; the score does not depend on it.", ROWS),
    "progress_every": Key(10, "Steps between two lines of training metrics.", POSITIVE),
    "eval_every": Key(
        100, "Steps between two evaluations; the last step is always evaluated.", POSITIVE
    ),
    "checkpoint_every": Key(
        1000, "Steps between two checkpoints; the last step is always saved.", POSITIVE
    ),
    "report": Key(
        True,
        "Draw what a finished run has learned (mistakes, confusion, attention, positions, filters) "
        "into its report, within seconds; False draws its curves alone.",
    ),
    "trackers": Key(
        (),
        "Where metrics go beside metrics.jsonl: any of 'tensorboard' (files in "
        "WORKDIR/tensorboard) and 'wandb' (Weights & Biases; WANDB_MODE=offline keeps it in the "
        "workdir).",
        any_of("tensorboard", "wandb"),
    ),
    "keep_checkpoints": Key(2, "Newest checkpoints kept.", POSITIVE),
    "keep_every": Key(
        None, "Checkpoints kept besides: those whose step this divides.", POSITIVE, int
    ),
    "keep_best": Key(
        None,
        "Score by which the best checkpoint is kept besides; each is evaluated then. Images with "
        "captions='files' have recalls alone, and nothing else has them.",
        one_of(*CLASS_SCORES, *RECALLS),
        str,
    ),
    "failed_saves_limit": Key(
        3, "Failed saves in a row that end the run; the last one must succeed.", POSITIVE
    ),
    "nonfinite": Key(
        "stop",
        "A step with a loss or gradient that is not finite is never kept: 'stop' ends the run; "
        "'skip' goes on with the next batch, and counts.",
        one_of("stop", "skip"),
    ),
    "nonfinite_limit": Key(
        100, "nonfinite='skip': steps skipped in all past which the run stops.", POSITIVE
    ),
    "nonfinite_row_limit": Key(
        10, "nonfinite='skip': steps skipped in a row past which the run stops.", POSITIVE
    ),
    "state_digests": Key(
        False, "Write a digest of the whole state after every step, for `vit_jax diff`."
    ),
}


def second_decay(optimizer: str, beta2: float | None) -> float:
    """Returns the decay of the second moment, which is the paper's where none is given."""
    if beta2 is None:
        return 0.99 if optimizer == "lion" else 0.999
    return beta2
