"""The notebooks run from their first cell to their last, with small settings, and are kept without outputs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in REPOSITORY.glob("notebooks/*.ipynb")}

# What takes the place of settings in the cell that is tagged `parameters`, as papermill has it
SMALL = {
    "paper": "MINUTES, LENGTH, LABELLED, EPOCHS = 0.02, 32, 8, 1",
    "your_data": "EPOCHS = 1",
    "word_surprisal": "TEXTS = TEXTS[:2]",
}


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_has_small_settings():
    assert set(NOTEBOOKS) == set(SMALL)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(name):
    assert NOTEBOOKS[name]["nbformat"] == 4
    for cell in code(NOTEBOOKS[name]):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, tmp_path):
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    train = tmp_path / "examples" / "sentiment" / "train.csv"
    train.write_text("".join(train.read_text(encoding="utf-8").splitlines(True)[:65]), encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))]
    (tmp_path / "book.txt").write_text("\n".join(pages), encoding="utf-8")
    cells = []
    for cell in code(NOTEBOOKS[name]):
        cells.append("".join(cell["source"]))
        if "parameters" in cell["metadata"].get("tags", ()):
            cells.append(SMALL[name])
    assert SMALL[name] in cells
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
