"""The tests that compare numbers, again, on programs compiled as they are for users.

All tests run on programs that XLA makes in a hurry, for which see conftest.py: it leaves out what
makes them fast, and what could, by a fault of XLA, make them wrong.
"""

import os
import subprocess
import sys

import pytest

from tests.golden import REPOSITORY

NUMBERS = (
    "tests/models/test_golden.py",
    "tests/models/test_mlp.py",
    "tests/models/test_lit.py",
    "tests/test_pretrained.py::test_published_npz",
    "tests/test_pretrained.py::test_timm",
    "tests/test_pretrained.py::test_transformers_with_hidden_states_and_attention",
    "tests/test_pretrained.py::test_another_patch_size_keeps_the_image_size_and_resizes_positions",
    "tests/test_pretrained.py::test_real_weights_call_the_photograph_tabby",
    "tests/test_pretrained.py::test_fine_tuning_starts_from_the_official_state",
    "tests/test_optim.py",
    "tests/test_step.py::test_official_fine_tuning",
    "tests/test_step.py::test_accumulated_parts_give_the_gradient_of_the_whole_batch",
)


@pytest.mark.slow
def test_numbers_hold_as_shipped():
    """Slow because XLA takes its time, which is the point."""
    environment = dict(os.environ, VIT_JAX_AS_SHIPPED="1", XLA_FLAGS="")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *NUMBERS],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
