"""Tables as spreadsheets and other programs write them: read rightly, or refused at their row."""

import csv
import io
import json
import os
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenization.corpus import read_books
from tokenization.table_files import DelimitedTable, TableArguments, open_table, write_table
from tokenization.text_files import read_blocks


CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


@pytest.fixture
def read(tmp_path):
    """Writes a file, reads it as a table, and gives its rows as lists, the header first."""

    def rows(name: str, content: str | bytes, **arguments) -> list[list]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        columns, _ = open_table(path, TableArguments(**arguments)).columns()
        return [list(columns), *map(list, zip(*columns.values(), strict=True))]

    return rows


PLAIN = [["text", "label"], ["a film", "pos"], ["a bore", "neg"]]


@pytest.mark.parametrize(
    "name, content, arguments",
    [
        ("commas.csv", "text,label\na film,pos\na bore,neg\n", {}),
        ("semicolons.csv", "text;label\na film;pos\na bore;neg\n", {}),
        ("tabs.csv", "text\tlabel\na film\tpos\na bore\tneg\n", {}),
        ("tabs.tsv", "text\tlabel\na film\tpos\na bore\tneg\n", {}),
        ("bars.csv", "text|label\na film|pos\na bore|neg\n", {"delimiter": "|"}),
        ("forced.tsv", "text;label\na film;pos\na bore;neg\n", {"delimiter": ";"}),
        ("named.csv", "text\tlabel\na film\tpos\na bore\tneg\n", {"delimiter": "tab"}),
        ("named.txt", "text\tlabel\na film\tpos\na bore\tneg\n", {"delimiter": "tab"}),
        ("bom.csv", "\ufefftext,label\na film,pos\na bore,neg\n", {}),
        ("utf16.csv", "text,label\na film,pos\na bore,neg\n".encode("utf-16"), {}),
        ("utf16be.tsv", "\ufefftext\tlabel\na film\tpos\na bore\tneg\n".encode("utf-16-be"), {}),
        ("utf32.csv", "text,label\na film,pos\na bore,neg\n".encode("utf-32"), {}),
        ("windows.csv", "text,label\r\na film,pos\r\na bore,neg\r\n", {}),
        ("old_mac.csv", "text,label\ra film,pos\ra bore,neg\r", {}),
        ("no_end.csv", "text,label\na film,pos\na bore,neg", {}),
        ("blank_lines.csv", "\ntext,label\n\na film,pos\n  \na bore,neg\n\n\n", {}),
        ("empty_columns.csv", "text,label,,\na film,pos,,\na bore,neg,,\n", {}),
        ("trailing.csv", "text,label\na film,pos,\na bore,neg,,\n", {}),
        ("blanks.csv", 'text, label\n"a film", "pos"\n"a bore", "neg"\n', {}),
        ("excels.csv", "sep=;\r\ntext;label\r\na film;pos\r\na bore;neg\r\n", {}),
        ("excels.tsv", "sep=\t\r\ntext\tlabel\r\na film\tpos\r\na bore\tneg\r\n", {}),
        ("blanks_in_header.csv", " text , label\na film,pos\na bore,neg\n", {}),
        ("lines.jsonl", '{"text": "a film", "label": "pos"}\n\n{"label": "neg", "text": "a bore"}\n', {}),
        ("array.json", '[{"text": "a film", "label": "pos"},\n {"text": "a bore", "label": "neg"}]', {}),
        ("lines.json", '{"text": "a film", "label": "pos"}\n{"text": "a bore", "label": "neg"}', {}),
        ("UPPER.CSV", "text,label\na film,pos\na bore,neg\n", {}),
    ],
)
def test_every_way_to_write_it_is_one_table(read, name, content, arguments):
    assert read(name, content, **arguments) == PLAIN


@pytest.mark.parametrize("word", ["NA", "null", "nan", "None", "N/A", "-", "007", "1.50", "1e5", "True", " x "])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_cell_is_the_text_that_stands_there(read, kind, word):
    separator = "," if kind == "csv" else "\t"
    assert read(f"data.{kind}", f"text{separator}n\n{word}{separator}{word}\n") == [["text", "n"], [word, word]]


def test_a_first_column_without_a_name_is_a_column(read):
    assert read("pandas.csv", ",text\n0,one\n1,two\n") == [["", "text"], ["0", "one"], ["1", "two"]]


@pytest.mark.parametrize(
    "name, content, rows",
    [
        ("blanks.csv", 'text, n\n"a, b", "1"\n c , 2\n', [["a, b", "1"], ["c ", "2"]]),
        ("csv.csv", 'text,n\n"a, ""b""\nc",1\nd "e",2\n', [['a, "b"\nc', "1"], ['d "e"', "2"]]),
        # Tabs: marks quote where all of the file parses so
        ("lines.tsv", 'text\tn\n"two\nlines"\tpos\nplain\tneg\n', [["two\nlines", "pos"], ["plain", "neg"]]),
        ("tabs.tsv", 'text\tn\n"a\tb"\t1\n', [["a\tb", "1"]]),
        ("doubled.tsv", 'text\tn\n"say ""no"""\t1\nd\t2\n', [['say "no"', "1"], ["d", "2"]]),
        ("header.tsv", '"text"\t"n"\n"a"\t"1"\n', [["a", "1"]]),
        # ... and are kept as they are where it does not
        ("open.tsv", 'text\tn\n"he said\t1\nno" he said\t2\n', [['"he said', "1"], ['no" he said', "2"]]),
        ("after.tsv", 'text\tn\n"No," he said.\t1\n"a"\t2\n', [['"No," he said.', "1"], ['"a"', "2"]]),
        ("inside.tsv", 'text\tn\n5" wide\t1\n', [['5" wide', "1"]]),
        # Here both readings fit the header, but quotation would make one row of three
        ("swallow.tsv", 'text\tn\n"he\t1\nplain\t2\nwent"\t3\n', [['"he', "1"], ["plain", "2"], ['went"', "3"]]),
    ],
)
def test_quotation_marks(read, name, content, rows):
    assert read(name, content) == [["text", "n"], *rows]


def test_a_file_without_a_header_and_with_bare_marks(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text('"gj04"\t1\t\tThe sailors rode.\ngj04\t0\t*\t"The\n')
    table = DelimitedTable(path, TableArguments(), names=["source", "label", "mark", "sentence"], quoted=False)
    columns, numbers = table.columns()
    assert columns["source"] == ['"gj04"', "gj04"] and columns["sentence"] == ["The sailors rode.", '"The']
    assert numbers == [1, 2] and columns["mark"] == ["", "*"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("longer.csv", "text,label\na,pos\na fine film, really,pos\n", "row 3: 3 fields, expected 2 (text, label)"),
        ("shorter.csv", "text,label\na,pos\nb\n", "row 3: 1 field, expected 2"),
        ("one.csv", "text\nWe came, saw\n", "row 2: 2 fields, expected 1"),
        ("longer.tsv", "text\tlabel\na\tb\tpos\n", "row 2: 3 fields"),
        ("quoted.tsv", 'text\tlabel\n"a\nb"\tpos\n"c\nd"\tneg\tx\n', "row 3: 3 fields"),
        ("open.csv", 'text,label\na,b\n"c,d\n', "row 3 cannot be read as CSV: a quotation mark is not closed"),
        ("after.csv", 'text,label\n"No," he said,b\n', "row 2 cannot be read as CSV"),
        ("twice.csv", "text,text\na,b\n", "two columns are called 'text'"),
        ("unnamed.csv", "text,,,n\na,,,b\n", "two columns are called ''"),
        ("header.csv", "text,label\n", "is empty: it has no data"),
        ("blank.csv", "\n  \n", "is empty: it has no data"),
        ("empty.csv", "", "is empty"),
        ("latin.csv", "text,label\ncaf\u00e9,b\n".encode("cp1252"), "not UTF-8 text at byte 14; likely cp1252"),
        ("russian.csv", "text,label\nпривет,b\n".encode("cp1251"), "not UTF-8 text at byte 11; likely"),
        ("japanese.csv", "text,label\nこんにちは,b\n".encode("shift_jis"), "likely shift_jis"),
        (
            "damaged.csv",
            "text\n\u00e9\u00e8\u00e0\n".encode() + b"\xe9\n",
            "at byte 12; all but a few bytes are UTF-8",
        ),
        ("cut.csv", "text\na\u2603".encode()[:-1], "not UTF-8 text at byte 6"),
        ("no_mark.csv", "text,label\na,b\n".encode("utf-16-le"), "likely utf-16-le"),
        ("book.csv", b"PK\x03\x04rest", "not text but a zip archive, as .xlsx"),
        ("old.csv", b"\xd0\xcf\x11\xe0rest", "an old Excel"),
        ("data.txt", "text\tlabel\na\tb\n", ".txt is a table only where --delimiter says what separates its"),
        ("data.xlsx", b"PK\x03\x04rest", "unknown kind of file, expected one of .csv, .tsv"),
        ("broken.jsonl", '{"text": "a"}\n{"text": \n', "cannot be read as JSONL: line 2: Expecting value"),
        ("list.jsonl", '{"text": "a"}\n["a"]\n', "line 2: not an object"),
        ("words.json", '["a", "b"]', "entry 1: not an object"),
        ("deep.jsonl", '{"a": ' + "[" * 100_000, "cannot be read as JSONL: line 1"),
        ("twice.jsonl", '{"a": 1, "a": 2}\n', "a name stands twice among a, a"),
        ("digits.jsonl", '{"a": ' + "9" * 5000 + "}\n", "line 1: Exceeds the limit"),
        ("bad.parquet", b"not Parquet at all", "cannot be read as Parquet"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(read, name, content, message):
    with pytest.raises(ValueError) as raised:
        read(name, content)
    assert message in str(raised.value) and name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments", [{"delimiter": ",,"}, {"delimiter": '"'}, {"encoding": "utf-9"}, {"encoding": ""}]
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="is one character|is no encoding"):
        TableArguments(**arguments)


def test_an_encoding_can_be_forced(read):
    assert read("data.csv", "text\ncaf\u00e9\n".encode("cp1252"), encoding="cp1252") == [["text"], ["caf\u00e9"]]
    assert read("data.jsonl", '{"a": "é"}'.encode("utf-16-le"), encoding="utf-16-le") == [["a"], ["é"]]
    with pytest.raises(ValueError, match="not CP932 text at byte"):
        read("data.csv", "text\ncaf\u00e9\n".encode("cp1252"), encoding="cp932")


def test_bad_rows_can_be_skipped_and_are_counted(read, caplog, tmp_path):
    content = "text,label\na,b,c\nd,e\nf\ng,h\n"
    assert read("data.csv", content, skip_bad_rows=True) == [["text", "label"], ["d", "e"], ["g", "h"]]
    table = open_table(tmp_path / "data.csv", TableArguments(skip_bad_rows=True))
    _, numbers = table.columns()
    assert numbers == [3, 5]
    table.bad_rows.report("data.csv")
    assert "data.csv: 2 rows skipped, the first for this" in caplog.text and "row 2: 3 fields" in caplog.text


def test_a_row_without_a_column_has_none_in_it(read):
    assert read("data.jsonl", '{"a": 1}\n{"b": [2]}\n') == [["a", "b"], [1, None], [None, [2]]]


def test_half_a_character_becomes_one_that_can_be_written(read):
    assert read("data.jsonl", '{"a": "x\\ud83dy", "b": "\\ud83d\\ude00"}\n') == [
        ["a", "b"],
        ["x\ufffdy", "\U0001f600"],
    ]


def test_parquet(tmp_path):
    path = tmp_path / "data.parquet"
    words = pyarrow.array(["a", None, "a"]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"text": words, "n": [1, 2, 3]}), path)
    table = open_table(path)
    assert table.columns() == ({"text": ["a", None, "a"], "n": [1, 2, 3]}, [1, 2, 3])
    assert list(table.column("n")) == [(1, 1), (2, 2), (3, 3)]
    with pytest.raises(ValueError, match="no column 'body'; there are text, n"):
        list(table.column("body"))
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(ValueError, match="two columns have one name"):
        open_table(path).columns()


def test_numbered_classes_of_parquet_have_their_names(tmp_path):
    path = tmp_path / "data.parquet"
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
    )
    rows = {"text": ["a", "b", "c", "d"], "label": [0, 1, -1, None]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert open_table(path).columns()[0] == rows | {"label": ["pos", "neg", None, None]}
    assert list(open_table(path).column("text"))[1] == (2, "b")


@pytest.mark.parametrize("name", ["x[1].csv", "a::b.csv", "**.csv", "x?.csv", "{a,b}.csv", "x%20y.csv"])
def test_a_path_is_a_path(read, tmp_path, name):
    (tmp_path / "x1.csv").write_text("text\nanother\n")
    (tmp_path / "xy.csv").write_text("text\nanother\n")
    assert read(name, "text\nthis one\n") == [["text"], ["this one"]]
    assert [list(texts) for _, texts in read_books([tmp_path / name])] == [["this one"]]


def test_what_a_file_holds_is_read_anew(read, tmp_path):
    assert read("data.csv", "text\none\n")[1] == ["one"]
    stamp = os.stat(tmp_path / "data.csv")
    (tmp_path / "data.csv").write_text("text\ntwo\n")
    os.utime(tmp_path / "data.csv", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert open_table(tmp_path / "data.csv").columns()[0]["text"] == ["two"]


def test_blocks_are_whole_lines_of_the_text(tmp_path, monkeypatch):
    text = "a\u00e9\u2603\n\U0001f600bcd\r\nefghijklmn\n\nop\u2028\x0bq"
    for size in range(4, 12):
        monkeypatch.setattr("tokenization.text_files.BLOCK", size)
        for encoding in ("utf-8", "utf-16", "utf-32", "utf-8-sig"):
            (tmp_path / "text").write_bytes(text.encode(encoding))
            blocks = list(read_blocks(tmp_path / "text"))
            assert "".join(blocks) == text
            assert all(block.endswith("\n") for block in blocks[:-1])


CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@settings(deadline=None)
@given(rows=st.lists(st.lists(CELLS.filter(str.strip), min_size=2, max_size=2), min_size=1, max_size=6))
@pytest.mark.parametrize("delimiter, name", [(",", "data.csv"), (";", "data.csv"), ("\t", "data.tsv")])
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows, delimiter, name):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "label"], *rows])
    path = tmp_path_factory.mktemp("csv") / name
    path.write_bytes(file.getvalue().encode())
    columns, _ = open_table(path).columns()
    assert [list(row) for row in zip(*columns.values(), strict=True)] == rows


@settings(deadline=None)
@given(rows=st.lists(st.lists(CELLS.filter(str.strip), min_size=2, max_size=2), min_size=1, max_size=6))
@example(rows=[["0", "0\r\t"], ["a\nb\tc", "d"]])  # without quotation, rows of as many fields
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_what_is_written_is_read_back(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("written") / f"data.{kind}"
    written = dict(zip(("text", "label"), map(list, zip(*rows, strict=True)), strict=True))
    write_table(path, written)
    assert open_table(path).columns()[0] == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_values_that_a_format_cannot_hold_are_written_as_json(tmp_path):
    columns = {"a": [1, "x", None], "b": [["y"], ["z", "w"], []], "c": [0.5, None, 2.0]}
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        write_table(tmp_path / f"data.{kind}", columns)
    text = {"a": ["1", "x", ""], "b": ['["y"]', '["z", "w"]', "[]"], "c": ["0.5", "", "2.0"]}
    assert open_table(tmp_path / "data.csv").columns()[0] == text
    assert open_table(tmp_path / "data.tsv").columns()[0] == text
    assert open_table(tmp_path / "data.jsonl").columns()[0] == columns
    assert open_table(tmp_path / "data.parquet").columns()[0] == columns | {"a": ["1", "x", None]}


def test_rows_of_every_kind_of_table_are_books(tmp_path, caplog):
    rows = [{"text": "null"}, {"text": " "}, {"text": "NA"}, {"text": 42}]
    write_table(tmp_path / "a.csv", {"text": [row["text"] for row in rows], "n": [1, 2, 3, 4]})
    write_table(tmp_path / "b.tsv", {"text": [row["text"] for row in rows], "n": [1, 2, 3, 4]})
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": None}]))
    (tmp_path / "d.json").write_text(json.dumps(rows))
    write_table(tmp_path / "e.parquet", {"text": ["null", None, "NA", "42"]})
    books = [(name, "".join(texts)) for name, texts in read_books([tmp_path])]
    assert [text for _, text in books] == ["null", "NA", "42"] * 5
    assert [Path(name).name for name, _ in books][:3] == ["a.csv, row 2", "a.csv, row 4", "a.csv, row 5"]
    assert "c.jsonl: 2 rows without a text are left out" in caplog.text


@pytest.mark.parametrize(
    "name, outcome",
    [
        ("longer_rows.csv", "row 2: 3 fields, expected 2 (text, label)"),
        ("one_column_with_commas.csv", "row 2: 2 fields, expected 1 (sentence)"),
        ("newline_in_quotes.tsv", {"text": ["two\nlines", "plain"], "label": ["pos", "neg"]}),
    ],
)
def test_the_cases_met_elsewhere(name, outcome):
    if not (CASES / name).is_file():
        pytest.skip(f"no small inputs at {CASES}")
    if isinstance(outcome, dict):
        assert open_table(CASES / name).columns()[0] == outcome
        return
    with pytest.raises(ValueError) as raised:
        open_table(CASES / name).columns()
    assert outcome in str(raised.value) and name in str(raised.value)
