"""The config parser on mangled flags and files: a valid config or our error, never another one."""

import contextlib
import json
import math
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import runs
from vit_jax.config import flatten, to_json, validate
from vit_jax.errors import ConfigError
from vit_jax.recipes import load_config
from vit_jax.settings import KEYS

WORDS = st.sampled_from(["None", "true", "1e400", "nan", "-1", "0", "()", "(1,", "[1]", "'", "{}"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted(KEYS))
BASE = json.loads(to_json(runs.tiny_config()))


few = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def check(spec, flags=()):
    """Loads a config; whatever comes back keeps all rules and can be written and read again."""
    config = None
    with contextlib.suppress(ConfigError):
        config = load_config(spec, flags)
    if config is None:
        with pytest.raises(ConfigError) as refusal:
            load_config(spec, flags)
        assert "\n" not in str(refusal.value)
        return
    validate(config)
    assert flatten(json.loads(to_json(config))).keys() == KEYS.keys()


@few
@given(st.lists(st.tuples(NAMES | st.text(max_size=12), WORDS | st.text(max_size=20)), max_size=4))
@example([("batch", "1" * 5000)])
@example([("pp", "3")])
@example([("model.patches.size", "(16,)")])
@example([("total_steps", "1e3")])
def test_flags(pairs):
    check("digits", [f"--config.{name}={value}" for name, value in pairs])


@few
@given(st.dictionaries(NAMES | st.sampled_from(["pp", "model", "mesh", "x"]), VALUES, max_size=4))
@example({"batch": math.nan})
@example({"accum_steps": None})
@example({"accum_steps": {"\n": None}})
@example({"batch": math.inf})
@example({"pp.mean": ["a", None, 3]})
@example({"pp.mean": "abc"})
@example({"augment.crop_area": [0.1, "x"]})
@example({"model.transformer": 3})
@example({"dataset": "\ud800"})
def test_settings_of_a_file(tmp_path_factory, changes):
    content = json.loads(json.dumps(BASE))
    for path, value in changes.items():
        *parents, name = path.split(".")
        node = content
        for parent in parents:
            node = node[parent] if isinstance(node.get(parent), dict) else node
        node[name] = value
    file = tmp_path_factory.getbasetemp() / "config.json"
    file.write_text(json.dumps(content))
    check(file)


@few
@given(st.data())
def test_damaged_bytes_of_a_file(tmp_path_factory, data):
    text = bytearray(json.dumps(BASE).encode())
    for place in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=4)):
        text[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_bytes(text[: data.draw(st.integers(0, len(text)))])
    check(file)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"batch": ' + "9" * 5000 + "}"])
def test_hostile_files(text, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(text)
    check(file)


def test_nothing_in_a_flag_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in KEYS:
        check("digits", [f"--config.{name}=(__import__('os').mkdir('run'),)"])
    assert os.listdir() == []
