"""What was meant by a flag that there is not, as other programs call it."""

import re
from collections.abc import Iterable

from vit_jax.commands.parser import TAKE_SETTINGS
from vit_jax.errors import nearest

_CLOSE = 0.7  # of flags, which are short: below it anything is near to anything
# What timm's and other scripts call a setting.
_ELSEWHERE = {
    "lr": "base_lr",
    "learning_rate": "base_lr",
    "batch_size": "batch",
    "wd": "weight_decay",
    "opt": "optimizer",
    "img_size": "pp.crop",
    "image_size": "pp.crop",
    "model": "model.model_name",
    "smoothing": "label_smoothing",
    "drop_path": "model.transformer.drop_path_rate",
    "drop": "model.transformer.dropout_rate",
    "workers": "decode_threads",
    "grad_accum_steps": "accum_steps",
    "clip_grad": "grad_norm_clip",
    "data_dir": "dataset",
}


def hint_for(flag: str, command: str, known: Iterable[str]) -> str:
    """Returns what to say after the name of an unknown flag: "; …", or "".

    Args:
      flag: as the user wrote it.
      command: that it was given to.
      known: the flags of that command.
    """
    name, equals, value = flag.partition("=")
    if re.match(r"--(?:no)?config\.", name):  # of a command that takes no settings
        return ": its settings are those of the run or the weights"
    if close := nearest(name, known, _CLOSE):
        return close
    setting = _setting(name.lstrip("-").replace("-", "_"))
    if command not in TAKE_SETTINGS or setting is None:
        return ""
    return f"; did you mean '--config.{setting}{equals}{value}'?"


def _setting(name: str) -> str | None:
    """Returns the setting of a name: its whole path, its last part, or what others call it."""
    from vit_jax.settings import KEYS  # only after a mistake

    path = _ELSEWHERE.get(name, name)
    if path in KEYS:
        return path
    last = [path for path in KEYS if path.rpartition(".")[2] == name]
    return last[0] if len(last) == 1 else None
