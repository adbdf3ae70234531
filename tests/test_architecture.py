"""The house: imports point down the floors, and nothing grows past its limits."""

import ast
from pathlib import Path

import pytest

from tests.golden import REPOSITORY

PACKAGE = REPOSITORY / "vit_jax"

# Lower floors know nothing of higher ones. A folder's files share its floor.
FLOORS = (
    (
        *("errors", "extras", "fonts", "grids", "trees", "fingerprint", "runtime"),
        *("settings", "config", "recipes", "recipe_words", "timm_names"),
    ),
    ("models",),
    (
        *("checkpoints", "data", "text", "optim", "mesh"),
        *("records", "nonfinite", "tables", "workdir", "provenance", "resuming"),
    ),
    (
        *("state", "step", "experiment", "contact_sheet", "evaluate", "pictures"),
        *("captions", "pair_model", "image_text", "tasks"),
        *("describing", "image_grid", "origin", "pretrained", "finetune", "release", "card"),
    ),
    (
        *(
            "training_program",
            "run",
            "saving",
            "train",
            "predict",
            "visualize",
            "benchmark",
            "planning",
        ),
        *("export", "prediction", "demo", "choosing"),
        "inspecting",
    ),
    ("commands", "main", "__init__", "__main__"),
)
# Neither may know the other, though one stands above.
STRANGERS = {
    *(("data", "models"), ("checkpoints", "models"), ("checkpoints", "data")),
    *(("text", "models"), ("text", "data")),
}

MAX_FILE_LINES = 300
MAX_BODY_LINES = 50
MAX_OWN_FIELDS = 8
# The visible list of exceptions: {"file.py" or "file.py:name"}.
EXCEPTIONS: set[str] = set()
# Fields of the official constructors do not count towards a layer's own.
OFFICIAL_FIELDS = {
    "VisionTransformer": "num_classes patches transformer hidden_size resnet representation_size "
    "classifier head_bias_init encoder model_name".split(),
    "MlpMixer": "patches num_classes num_blocks hidden_dim tokens_mlp_dim channels_mlp_dim "
    "model_name".split(),
    "Encoder1DBlock": "mlp_dim num_heads dtype dropout_rate attention_dropout_rate".split(),
    "MultiHeadDotProductAttention": "num_heads dropout_rate dtype".split(),
    "Encoder": "num_layers mlp_dim num_heads dropout_rate attention_dropout_rate "
    "add_position_embedding".split(),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def _room(module: str) -> str:
    """Returns the top-level file or folder of the package that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _floor(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def _room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(file: Path) -> set[str]:
    """Returns the rooms that a file imports from."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vit_jax"):
            if node.module == "vit_jax":
                rooms |= {alias.name for alias in node.names if not alias.name.startswith("__")}
            else:
                rooms.add(_room(node.module or ""))
        if isinstance(node, ast.Import):
            rooms |= {_room(a.name) for a in node.names if a.name.split(".")[0] == "vit_jax"}
    return rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file):
    here = _room_of(file)
    for there in _imports(file) - {here}:
        assert _floor(there) <= _floor(here), f"{here} must not import {there}, which is above it"
        assert (here, there) not in STRANGERS, f"{here} must not know {there}"
        assert (there, here) not in STRANGERS, f"{here} must not know {there}"
        assert there != "main" or here == "__main__", "nobody imports main"


def test_no_room_imports_itself_in_a_circle():
    graph = {room: set() for rooms in FLOORS for room in rooms}
    for file in FILES:
        graph[_room_of(file)] |= _imports(file) - {_room_of(file)}
    graph["__init__"] = set()  # the façade imports when asked

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        new = graph[start] - seen
        return goal in graph[start] or any(reaches(r, goal, seen | new) for r in new)

    assert [room for room in graph if reaches(room, room, set())] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_sizes(file):
    name = str(file.relative_to(PACKAGE))
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES or name in EXCEPTIONS
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= MAX_BODY_LINES or f"{name}:{node.name}" in EXCEPTIONS, node.name
        if isinstance(node, ast.ClassDef):
            fields = {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            } - set(OFFICIAL_FIELDS.get(node.name, ()))
            is_layer = any(ast.unparse(base) == "nn.Module" for base in node.bases)
            assert not is_layer or len(fields) <= MAX_OWN_FIELDS, f"{node.name}: {fields}"


def test_models_have_no_suppressions():
    for file in (PACKAGE / "models").rglob("*.py"):
        for mark in ("type: ignore", "noqa", "pyright:"):
            assert mark not in file.read_text(), f"{file.name}: {mark}"


def test_every_setting_has_a_reader():
    """A key that nothing reads is a promise that nothing keeps."""
    sources = "\n".join(f.read_text() for f in FILES if f.parent.name != "settings")
    from vit_jax.settings import KEYS

    read_whole = ("model.", "augment.")  # passed on by name: a wrong one is an error there
    for key in KEYS:
        last = key.split(".")[-1]
        assert key.startswith(read_whole) or f".{last}" in sources, f"config.{key} has no reader"
