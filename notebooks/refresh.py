"""Executes the notebooks again, and keeps of what they print the pictures alone.

    python notebooks/refresh.py                                      # all, as they are
    python notebooks/refresh.py 2_fine_tune PHOTOS=my_photos         # one, on other photographs

NAME=VALUE replaces a parameter of the notebook (the cell with the tag "parameters") for this
execution; the file keeps its own. Pictures are kept with 256 colours, so that they stay small. The
notebooks run in a temporary folder. Needs the extra `notebooks`.
"""

import argparse
import ast
import base64
import copy
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
PARAMETERS = "parameters"  # the tag that papermill looks for, too
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_CELL_SECONDS = 3600


def read(path: Path) -> nbformat.NotebookNode:
    """Returns a notebook; a file that is none is an error."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def with_parameters(
    notebook: nbformat.NotebookNode, values: Mapping[str, Any]
) -> nbformat.NotebookNode:
    """Returns the notebook with other values assigned at the end of its parameters cell.

    Raises:
      ValueError: a name that the cell does not assign.
    """
    changed = copy.deepcopy(notebook)
    cell = next(c for c in changed.cells if PARAMETERS in c.metadata.get("tags", ()))
    known = [ast.unparse(node.targets[0]) for node in ast.parse(cell.source).body if _assigns(node)]
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name}={value!r}: the parameters are {', '.join(known)}")
        cell.source += f"\n{name} = {value!r}"
    return changed


def _assigns(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Returns the notebook with its outputs; a cell that fails is a `CellExecutionError`.

    Args:
      notebook: as it is; it is not changed.
      folder: where it runs.
    """
    executed = copy.deepcopy(notebook)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        executed, timeout=_CELL_SECONDS, kernel_name="python3", resources=resources
    )
    return client.execute()


def stripped(
    notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode
) -> nbformat.NotebookNode:
    """Returns a notebook as it is committed: its own cells, with the pictures of an execution."""
    pictures = {cell.id: _pictures(cell) for cell in executed.cells if cell.cell_type == "code"}
    kept = copy.deepcopy(notebook)
    kept.metadata = nbformat.from_dict(_METADATA)
    for cell in kept.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, pictures[cell.id]
    return kept


def _pictures(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    found = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [
        nbformat.v4.new_output("display_data", data={"image/png": _smaller(png)})
        for png in found
        if png
    ]


def _smaller(png: str) -> str:
    """Returns a picture in base64 with a palette of 256 colours, which suffices for the eye."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":  # it has a palette already
        return png
    # Rare colours count as much as frequent ones: a colour bar keeps its ends.
    image = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=5)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _value(text: str) -> Any:
    """Reads a number or a list as Python does; anything else is a text."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Executes the notebooks named, or all, and writes them with their pictures."""
    parser = argparse.ArgumentParser(description="execute notebooks, keep their pictures")
    parser.add_argument("what", nargs="*", metavar="NOTEBOOK or NAME=VALUE")
    what = parser.parse_args(arguments).what
    values = dict(text.split("=", 1) for text in what if "=" in text)
    names = [Path(text).stem for text in what if "=" not in text]
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger's
    for path in sorted(HERE.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = read(path)
        given = with_parameters(notebook, {name: _value(text) for name, text in values.items()})
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(given, Path(folder))
        nbformat.write(stripped(notebook, executed), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
