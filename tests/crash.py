"""A training run that kills itself: `python -m tests.crash WORKDIR STEP SETTINGS`.

SETTINGS is a JSON object laid over the tiny run of `tests.runs`. Right after STEP has been
dispatched, the process sends itself SIGKILL: nothing is flushed, closed or finished.
"""

import json
import os
import signal
import sys
from unittest import mock

from tests import runs
from vit_jax.loggers import Recorder
from vit_jax.train import train


def main(workdir: str, step: int, settings: str) -> None:
    push = Recorder.push

    def push_and_die(self, now, measured):
        push(self, now, measured)
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(Recorder, "push", push_and_die):
        train(runs.tiny_config(**json.loads(settings)), workdir)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
