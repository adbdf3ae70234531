"""The notebooks run from top to bottom on small real data, and lie here as they should."""

import ast
import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebooks import refresh
from tests import xla
from tests.golden import REPOSITORY, shared
from vit_jax.checkpoints.catalogue import published

NOTEBOOKS = {path.stem: path for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb"))}
PREDICT, FINE_TUNE, SEES, CONVERT, COMPACT = (
    *("1_predict_with_a_pretrained_model", "2_fine_tune", "3_what_a_vit_sees"),
    *("4_convert_between_ecosystems", "5_train_a_compact_vit_from_scratch"),
)
MAX_CELLS = 12
MAX_BYTES = 400_000
# The façade, the modules that it names, and what every notebook may take for granted.
PUBLIC = {"vit_jax", *(f"vit_jax.{name}" for name in ("models", "predict", "train", "visualize"))}
OTHERS = {"IPython", "jax", "matplotlib", "numpy", *sys.stdlib_module_names}

# Of ImageNet's thousand classes (data/imagenet_classes.txt).
CATS, DOGS = range(281, 286), range(151, 269)

runs = pytest.mark.slow  # a kernel starts, and compiles models of real size


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Returns a function that runs a notebook and what it is asked for at its end, as JSON."""
    monkeypatch.setenv("XLA_FLAGS", xla.flags())  # as a user has it, without the virtual devices
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger's
    folder = tmp_path / "work"
    folder.mkdir()

    def one(name: str, asked: str, **parameters: Any) -> Any:
        notebook = refresh.read(NOTEBOOKS[name])
        given = refresh.with_parameters(notebook, parameters)
        given.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({asked}))"))
        executed = refresh.execute(given, folder)
        answer = json.loads(executed.cells.pop().outputs[0].text)
        again = refresh.stripped(notebook, executed)
        assert _pictures_by_cell(again) == _pictures_by_cell(notebook)
        return answer

    return one


def _pictures_by_cell(notebook: nbformat.NotebookNode) -> dict[str, int]:
    return {cell.id: len(cell.get("outputs", ())) for cell in notebook.cells}


@runs
def test_a_pretrained_model_tells_cats_from_dogs(execute):
    found, difference = execute(
        PREDICT,
        "([(Path(one.path).parent.name, one.indices[0]) for one in predictions],"
        " float(difference))",
        WEIGHTS=str(shared("pretrained", "deit_tiny")),
        PHOTOS=str(shared("data", "cats_dogs", "test")),
    )
    kinds = {"cats": CATS, "dogs": DOGS}
    assert len(found) == 30
    assert sum(index in kinds[kind] for kind, index in found) >= 20  # 23; by chance, 2
    assert difference < 1e-5


@runs
def test_fine_tuning_learns_two_classes(execute):
    flags = ["total_steps=6", "batch=16", "warmup_steps=1", "report=false"]
    accuracy, names, counted = execute(
        FINE_TUNE,
        "(result.scores['accuracy'], list(names), int(counts.sum()))",
        WEIGHTS=str(shared("pretrained", "deit_tiny")),
        PHOTOS=str(shared("data", "cats_dogs")),
        FLAGS=[f"--config.{flag}" for flag in flags],
    )
    assert names == ["cats", "dogs"]
    assert counted == 30
    assert accuracy >= 0.8  # 50 % by chance, which gives 24 of 30 in one of 1,400 tries


@runs
def test_what_a_vit_sees_is_drawn_and_heads_matter(execute):
    drawn, missing, sums, lost = execute(
        SEES,
        "([one.file for one in album.pictures], album.missing,"
        " weights.sum(-1).ravel().tolist(), lost.tolist())",
        WEIGHTS=str(shared("pretrained", "deit_tiny")),
    )
    assert set(drawn) == {"attention.png", "distances.png", "positions.png", "filters.png"}
    assert missing == []
    assert sums == pytest.approx([1.0] * (2 * 3 * 197), abs=1e-4)
    assert (len(lost), len(lost[0])) == (12, 3)
    assert max(abs(value) for row in lost for value in row) > 0.02


@runs
def test_every_format_gives_the_same_logits_and_the_same_bits(execute):
    differences, logits, same = execute(
        CONVERT,
        "(differences, logits[WEIGHTS].tolist(), same)",
        WEIGHTS=str(shared("pretrained", "deit_tiny")),
    )
    assert len(differences) == 4
    assert max(differences.values()) < 1e-6
    assert all(max(row) > 3 for row in logits)  # of a trained model, not zeros
    assert len(same) == 200
    assert all(same.values())


@runs
def test_a_compact_vit_learns_the_digits(execute):
    accuracy, pool = execute(COMPACT, "(result.scores['accuracy'], config.model.pool)", EPOCHS=15)
    assert pool == "sequence"
    assert accuracy >= 0.8  # 10 % by chance


def test_all_five_are_here():
    assert list(NOTEBOOKS) == [PREDICT, FINE_TUNE, SEES, CONVERT, COMPACT]
    table = (REPOSITORY / "notebooks" / "README.md").read_text()
    assert all(f"({path.name})" in table for path in NOTEBOOKS.values())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_short_and_keeps_pictures_alone(name):
    notebook = refresh.read(NOTEBOOKS[name])
    assert len(notebook.cells) <= MAX_CELLS
    assert NOTEBOOKS[name].stat().st_size < MAX_BYTES
    assert refresh.stripped(notebook, notebook) == notebook
    assert sum(_pictures_by_cell(notebook).values()) > 0
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells)
    assert sum("tags" in cell.metadata for cell in notebook.cells) == 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_imports_what_is_public_alone(name):
    for module, what in _imports(NOTEBOOKS[name]):
        root = module.split(".")[0]
        assert module in PUBLIC if root == "vit_jax" else root in OTHERS, module
        assert not what.startswith("_"), f"{module}.{what}"


def _imports(path: Path) -> list[tuple[str, str]]:
    """Returns (module, name taken from it) of all imports; "" for a whole module."""
    cells = [cell.source for cell in refresh.read(path).cells if cell.cell_type == "code"]
    found = []
    for node in ast.walk(ast.parse("\n".join(cells))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_only_names_of_the_facade_are_used():
    import vit_jax

    for path in NOTEBOOKS.values():
        for cell in refresh.read(path).cells:
            used = re.findall(r"^[^#]*\bvit_jax\.(\w+)\(", cell.source, flags=re.MULTILINE)
            if cell.cell_type == "code":
                assert {*used} <= {*vit_jax.__all__}, f"{path.name}: {used}"


@pytest.mark.parametrize("name", [PREDICT, FINE_TUNE, SEES, CONVERT])
def test_its_own_weights_are_published(name):
    """They are those of the shared folder: what runs here is what a newcomer runs."""
    (cell,) = (c for c in refresh.read(NOTEBOOKS[name]).cells if "tags" in c.metadata)
    found = re.search(r'^WEIGHTS = "(.+?)"', cell.source, flags=re.MULTILINE)
    assert found is not None
    weights = published(found[1])
    assert (weights.architecture, weights.image_size) == ("ViT-Ti_16", 224)


def test_a_parameter_that_a_notebook_does_not_have_is_refused():
    notebook = refresh.read(NOTEBOOKS[COMPACT])
    with pytest.raises(ValueError, match="EPOCH=1: the parameters are EPOCHS, WORKDIR"):
        refresh.with_parameters(notebook, {"EPOCH": 1})


def test_what_is_printed_goes_and_pictures_stay():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="one")])
    executed = copy.deepcopy(notebook)
    png = refresh.read(NOTEBOOKS[COMPACT]).cells
    picture = next(cell.outputs[0].data for cell in png if cell.get("outputs"))
    executed.cells[0].execution_count = 3
    executed.cells[0].outputs = [
        nbformat.v4.new_output("stream", text="said"),
        nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=3),
        nbformat.v4.new_output("display_data", data={"text/plain": "<Figure>", **picture}),
    ]
    (kept,) = refresh.stripped(notebook, executed).cells
    assert kept.execution_count is None
    assert [output.data for output in kept.outputs] == [picture]
