"""The tables of the READMEs are those of the results."""

from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture(scope="module")
def tables(load_module):
    return load_module("benchmarks/tables.py")


def test_tables_are_those_of_the_results(tables):
    for name in tables.DOCUMENTS:
        document = (REPOSITORY / name).read_text(encoding="utf-8")
        assert "<!-- " in document
        assert tables.filled(document) == document, f"{name}: run benchmarks/tables.py"


def test_a_table_is_filled_between_its_markers_alone(tables):
    filled = tables.filled("before\n<!-- speed -->\nan old table\n<!-- /speed -->\nafter\n")
    first, marker, *rows, end, last = filled.splitlines()
    assert (first, marker, end, last) == ("before", "<!-- speed -->", "<!-- /speed -->", "after")
    assert len(rows) > 2 and all(row.startswith("|") for row in rows)
