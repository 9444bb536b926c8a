"""
Tables in files: CSV, TSV, JSON lines and Parquet, read row by row and never guessed at.

A row that does not fit the others is refused, with its place, or skipped and counted. In CSV and TSV every cell is a
text: what is a number is for the reader of the column to say, and "NA", "null" and "nan" are words.
"""

import csv
import json
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

from .text_files import check_encoding, first_line, join_surrogates, read_lines


logger = logging.getLogger(__name__)

DELIMITERS = ",;\t"
LONGEST_FIELD = 2**31 - 1  # characters, rather than the 131,072 of the csv module: a cell can hold a book
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass
class TableArguments:
    """What is not seen from a table's file itself."""

    delimiter: str | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "What separates the fields of CSV and TSV files: recognised by their header if not given."},
    )
    encoding: str | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "Of text, CSV, TSV and JSON files: UTF-8, or what a byte-order mark says, if not given."},
    )
    skip_bad_rows: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "Skip and count rows that lack a text or a label, or have too many fields or too few."},
    )

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            self.delimiter = {"\\t": "\t", "tab": "\t"}.get(self.delimiter, self.delimiter)
            if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
                raise ValueError(f"--delimiter is one character, or tab; not {self.delimiter!r}")
        if self.encoding is not None:
            check_encoding(self.encoding)


class BadRows:
    """What becomes of rows that cannot be used: the first one is refused, or all are skipped and counted."""

    def __init__(self, skip: bool = False):
        self.skip = skip
        self.count = 0
        self._first = ""

    def add(self, place: str, problem: str) -> None:
        """Raises `ValueError` for a row, if it is not to be skipped."""
        if not self.skip:
            raise ValueError(f"{place}: {problem}")
        self.count += 1
        self._first = self._first or f"{place}: {problem}"

    def report(self, name: str) -> None:
        """Says in one line how many rows were skipped, if any."""
        if self.count:
            logger.warning("%s: %d rows skipped, the first for this: %s", name, self.count, self._first)
            self.count, self._first = 0, ""


def text_of(value: Any) -> str | None:
    """A cell as text, a number as it is written; None for what is none: a blank, null, NaN, a list."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, int) or isinstance(value, (float, Decimal)) and math.isfinite(value):
        return str(value)
    return None


class Table(ABC):
    """
    A file's rows.

    Args:
        path: the file.
        arguments: how to read it.

    Attributes:
        unit (`str`): what a row is counted as, in this kind of file.
        decimal_comma (`bool`): whether numbers may be written as 4,5.
        bad_rows (`BadRows`): rows that do not fit the others.
    """

    unit = "row"
    decimal_comma = False

    def __init__(self, path: str | PathLike, arguments: TableArguments):
        self.path = path
        self.encoding = arguments.encoding
        self.bad_rows = BadRows(arguments.skip_bad_rows)

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every row with its number in the file, by column."""

    def place(self, number: int) -> str:
        """A row's name in a message."""
        return f"{self.path}, {self.unit} {number}"

    def column(self, name: str) -> Iterator[tuple[int, Any]]:
        """One column, with the rows' numbers. Raises `ValueError` if the first row has none of this name."""
        for index, (number, row) in enumerate(self.rows()):
            if index == 0 and name not in row:
                raise ValueError(f"{self.path}: no column {name!r}; there are {', '.join(row)}")
            yield number, row.get(name)

    def columns(self, only: set[str] | None = None) -> tuple[dict[str, list[Any]], list[int]]:
        """
        All columns, or those of these names, None where a row lacks one, and the rows' numbers. Raises `ValueError` if
        there are no rows.
        """
        columns: dict[str, list[Any]] = {}
        numbers: list[int] = []
        for number, row in self.rows():
            for name in row:
                if name not in columns and (only is None or name in only):
                    columns[name] = [None] * len(numbers)
            for name, values in columns.items():
                values.append(row.get(name))
            numbers.append(number)
        if not numbers:
            raise ValueError(f"{self.path} is empty: it has no data")
        return columns, numbers


class DelimitedTable(Table):
    """
    A CSV or TSV file (RFC 4180). The header says what separates its fields; what stands in quotation marks is one
    field, line breaks and separators in it too.

    Many tab-separated files, GLUE's among them, know no quotation: a mark is a mark. So with tabs, marks quote where
    they can: some field begins with one, the whole file parses so, every row has as many fields as the header, and no
    row is lost by it that would be one without quotation, unless every field of the header is quoted. Otherwise every
    mark is kept.

    Empty fields beyond the header's last one are dropped, and so are blank lines; of a table of one column only those
    at its end, since others are rows without a text. A row is counted as spreadsheets do it: the header is row 1.

    Args:
        path: the file.
        arguments: how to read it.
        names: the columns of a file that has no header.
        quoted: whether quotation marks quote; by the rule above if None.
        further: whether rows may have further fields, which are left out.
    """

    def __init__(
        self,
        path: str | PathLike,
        arguments: TableArguments,
        names: list[str] | None = None,
        quoted: bool | None = None,
        further: bool = False,
    ):
        super().__init__(path, arguments)
        self.names = names
        self.further = further
        first = first_line(path, self.encoding)
        unquoted = re.sub('"[^"]*"', "", first).rstrip("\r\n")
        said = re.fullmatch("sep=(.)", unquoted)  # Excel's own line
        tabs = Path(path).suffix.lower() == ".tsv"
        likely = said[1] if said else "\t" if tabs else max(DELIMITERS, key=unquoted.count)
        self.delimiter = arguments.delimiter or likely
        # `text, label`, whose fields are quoted after a blank
        self.spaced = f"{self.delimiter} " in unquoted and not re.search(f"{re.escape(self.delimiter)}(?! )", unquoted)
        self.decimal_comma = self.delimiter == ";"
        self.quoted = (self.delimiter != "\t" or self._is_quoted(first)) if quoted is None else quoted

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        for number, names, fields in self._records(self.quoted, self.bad_rows):
            yield number, dict(zip(names, fields, strict=True))

    def _records(self, quoted: bool, bad_rows: BadRows) -> Iterator[tuple[int, list[str], list[str]]]:
        """Rows as number, header and fields; those that do not fit the header are bad ones."""
        names, blank = self.names, []
        for number, fields in self._parse(quoted):
            if names is None:
                if "".join(fields).strip() and fields != ["sep=", ""]:
                    names = self._header(fields)
                continue
            while len(fields) > len(names) and not fields[-1].strip():
                fields.pop()
            if self.further:
                del fields[len(names) :]
            if fields != [""] and len(fields) < 2 and not "".join(fields).strip():
                blank.append(number)
                continue
            if len(names) == 1:
                yield from ((row, names, [""]) for row in blank)
            blank.clear()
            if len(fields) == len(names):
                yield number, names, fields
            else:
                bad_rows.add(
                    self.place(number),
                    f"{len(fields)} field{'s' * (len(fields) > 1)}, expected {len(names)} ({', '.join(names)}); "
                    f"they are separated by {self.delimiter!r}: a text that holds it stands in quotation marks, and "
                    "--delimiter names another separator",
                )

    def _parse(self, quoted: bool) -> Iterator[tuple[int, list[str]]]:
        """Every record with its number, as the csv module takes it."""
        csv.field_size_limit(LONGEST_FIELD)
        lines = read_lines(self.path, self.encoding)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        spaced = quoted and self.spaced
        records = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True, skipinitialspace=spaced)
        number = 0
        try:
            for number, fields in enumerate(records, 1):
                yield number, fields
        except csv.Error as error:
            reason = "a quotation mark is not closed" if "end of data" in str(error) else str(error)
            raise ValueError(f"{self.place(number + 1)} cannot be read as CSV: {reason}") from error

    def _header(self, fields: list[str]) -> list[str]:
        names = [name.strip() for name in fields]
        while not names[-1]:
            names.pop()
        twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if twice is not None:
            raise ValueError(f"{self.path}: two columns are called {twice!r}")
        return names

    def _is_quoted(self, first: str) -> bool:
        raw_rows, raw_fits, marks = self._survey(quoted=False)
        if raw_fits and not marks:
            return False
        rows, fits, _ = self._survey(quoted=True)
        if raw_fits:
            header = first.strip().split(self.delimiter) if self.names is None else [""]
            return fits and (rows == raw_rows or all(re.fullmatch('"[^"]+"', name) for name in header))
        # If neither fits, the reading that gets further tells what is wrong
        return fits or (rows > raw_rows and not self.bad_rows.skip)

    def _survey(self, quoted: bool) -> tuple[int, bool, bool]:
        """How many rows fit the header, whether all do, and whether a field begins with a quotation mark."""
        rows, marks = 0, False
        try:
            for _, names, fields in self._records(quoted, BadRows()):
                rows += 1
                marks = marks or any(field.startswith('"') for field in (*names, *fields))
        except ValueError:
            return rows, False, marks
        return rows, True, marks


class JsonTable(Table):
    """A file of JSON objects: one per line, or all in one array. A row is counted as a line, or as an entry."""

    def __init__(self, path: str | PathLike, arguments: TableArguments):
        super().__init__(path, arguments)
        first = first_line(path, self.encoding)
        self.unit = "entry" if first.lstrip().startswith("[") else "line"

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if self.unit == "entry":
            values: Iterable[tuple[int, Any]] = enumerate(
                self._load("".join(read_lines(self.path, self.encoding)), "its array"), 1
            )
        else:
            lines = enumerate(read_lines(self.path, self.encoding), 1)
            values = ((number, self._load(line, f"line {number}")) for number, line in lines if line.strip())
        for number, value in values:
            if not isinstance(value, dict):
                raise ValueError(f"{self.place(number)}: not an object, with a value for each column")
            yield number, value

    def _load(self, text: str, where: str) -> Any:
        try:
            value = json.loads(text, object_pairs_hook=_once_each)
            if SURROGATE.search(text):
                value = json.loads(join_surrogates(json.dumps(value, ensure_ascii=False)))
            return value
        except (ValueError, RecursionError) as error:
            at = f"{error.msg}, character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise ValueError(f"{self.path} cannot be read as JSONL: {where}: {at}") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(name for name, _ in pairs)}")
    return values


class ParquetTable(Table):
    """
    A Parquet file; its rows are counted from 1. Classes that a data set numbered have their names, as its file tells
    them, and a class that is not known, -1 there, is None.
    """

    def rows(self, only: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        done = 0
        try:
            with open(self.path, "rb") as content, ParquetFile(content) as file:
                names = file.schema_arrow.names
                if len(set(names)) < len(names):
                    raise ValueError(f"{self.path}: two columns have one name among {', '.join(names)}")
                if only is not None and not set(only) <= set(names):
                    raise ValueError(f"{self.path}: no column {only[0]!r}; there are {', '.join(names)}")
                classes = _classes(file.schema_arrow)
                for batch in file.iter_batches(1024, columns=only):
                    rows = batch.to_pylist()
                    for name in classes.keys() & batch.schema.names:
                        for row in rows:
                            row[name] = classes[name].get(row[name])
                    yield from enumerate(rows, done + 1)
                    done += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{self.path} cannot be read as Parquet: {error}") from error

    def column(self, name: str) -> Iterator[tuple[int, Any]]:
        return ((number, row[name]) for number, row in self.rows(only=[name]))


def _classes(schema: Any) -> dict[str, dict[int, str]]:
    """The names of classes by their numbers, of each column whose classes `datasets` numbered."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(schema)
    return {name: dict(enumerate(each.names)) for name, each in features.items() if isinstance(each, ClassLabel)}


KINDS: dict[str, type[Table]] = {
    ".csv": DelimitedTable,
    ".tsv": DelimitedTable,
    ".json": JsonTable,
    ".jsonl": JsonTable,
    ".parquet": ParquetTable,
}


def open_table(path: str | PathLike, arguments: TableArguments | None = None) -> Table:
    """
    A table by its file's ending; with a delimiter, .txt is one too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown ending, or a file that is empty or no text; and what `Table.rows` raises.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    arguments = arguments or TableArguments()
    if path.suffix.lower() == ".txt":
        if arguments.delimiter is None:
            raise ValueError(f"{path}: .txt is a table only where --delimiter says what separates its fields")
        kind: type[Table] = DelimitedTable
    else:
        kind = kind_of(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    return kind(path, arguments)


def kind_of(path: str | PathLike, without_ending: type[Table] | None = None) -> type[Table]:
    """The kind of table that a file's name ends with. Raises `ValueError` for none of these."""
    ending = Path(path).suffix.lower()
    kind = KINDS.get(ending) if ending else without_ending
    if kind is None:
        raise ValueError(f"{path}: unknown kind of file, expected one of {', '.join(KINDS)}")
    return kind


def write_table(path: str | PathLike, columns: Mapping[str, Sequence[Any]]) -> None:
    """
    Writes columns of one length as the kind of table that the file's ending names; JSON lines if it has none.

    Lists and objects, which CSV and TSV cannot hold, and Parquet not among other values, are written there as JSON.

    Raises:
        ValueError: an unknown ending.
        OSError: no place to write.
    """
    path, kind = Path(path), kind_of(path, JsonTable)
    if kind is ParquetTable:
        import pyarrow
        from pyarrow.parquet import write_table as write_parquet

        arrays = {name: _arrow_array(values) for name, values in columns.items()}
        write_parquet(pyarrow.table(arrays), path)
        return
    rows = zip(*columns.values(), strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind is JsonTable:
            file.writelines(_as_json(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        else:
            _write_delimited(file, (columns, *rows), "\t" if path.suffix.lower() == ".tsv" else ",")


def _write_delimited(file: IO[str], rows: Iterable[Iterable[Any]], delimiter: str) -> None:
    cells = [list(map(_as_cell, row)) for row in rows]
    # A line break in a field may make two rows where tabs separate: a header in marks tells that marks quote. And with
    # this line end the csv module sees nothing to quote in a bare \r
    breaks = any("\r" in cell or "\n" in cell for row in cells for cell in row)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if breaks else csv.QUOTE_MINIMAL
    csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(cells)


def _arrow_array(values: Sequence[Any]) -> Any:
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):  # of several types
        return pyarrow.array([None if value is None else _as_cell(value) for value in values], pyarrow.string())


def _as_cell(value: Any) -> str:
    return _as_json(value) if isinstance(value, (list, dict)) else "" if value is None else str(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
