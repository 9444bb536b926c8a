"""Texts to learn from: files, folders, data sets of the Hub, or what the caller iterates over."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from os import PathLike
from pathlib import Path


TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXTS = (".txt", ".text", ".md")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")  # owner/name, and a configuration after a colon
LINES_AT_A_TIME = 1 << 22  # bytes


def read_texts(source: str | PathLike | Iterable[str | PathLike], text_column: str = "text") -> Iterator[str]:
    """The texts of `source`: one path or Hub id; a list of paths that all exist; or texts, as they are.

    Raises `ValueError` for bytes, and as `read_books` does.
    """
    if isinstance(source, (bytes, bytearray)):
        raise ValueError("a corpus is a path or texts (str), not bytes")
    if isinstance(source, (str, PathLike)):
        return read_paths([source], text_column)
    if isinstance(source, (list, tuple)) and source and all(_exists(item) for item in source):
        return read_paths(source, text_column)
    return iter(source)


def read_paths(paths: Iterable[str | PathLike], text_column: str = "text") -> Iterator[str]:
    """The texts of [`read_books`], one after the other."""
    return chain.from_iterable(texts for _, texts in read_books(paths, text_column))


def read_books(
    paths: Iterable[str | PathLike], text_column: str = "text", encoding_errors: str = "strict"
) -> Iterator[tuple[str, Iterator[str]]]:
    """The books of files, folders (every text or table in them) and Hub data sets (`owner/name[:configuration]`).

    A text file is a book; it comes in blocks of whole lines. Of tables (JSON lines, CSV, Parquet) and data sets each
    row's column `text_column` is one.

    Args:
        paths: where they are.
        text_column: of tables and data sets.
        encoding_errors: what becomes of bytes that are not UTF-8 in a text file: as in `bytes.decode`.

    Returns:
        The name of each book with its text, to be taken before the next one is.

    Raises:
        OSError: a path that is neither there nor the form of a Hub id, or a data set that cannot be reached.
        ValueError: a folder without texts, a file that is not UTF-8, a table without the column.
    """
    for path in paths:
        if not _exists(path):
            identifier, configuration = hub_id(path)
            yield from _rows(str(path), text_column, identifier, name=configuration)
            continue
        for file in files_of(path):
            if file.suffix.lower() in TABLES:
                options = {"delimiter": "\t"} if file.suffix.lower() == ".tsv" else {}
                yield from _rows(str(file), text_column, TABLES[file.suffix.lower()], data_files=str(file), **options)
            else:
                yield str(file), _blocks(file, encoding_errors)


def files_of(path: str | PathLike) -> list[Path]:
    """The texts and tables in a folder, sorted; or the file itself.

    Raises `ValueError` for a folder without any.
    """
    if not Path(path).is_dir():
        return [Path(path)]
    files = [f for f in sorted(Path(path).rglob("*")) if f.suffix.lower() in (*TEXTS, *TABLES) and f.is_file()]
    if not files:
        raise ValueError(f"{path}: no text in this folder ({' '.join((*TEXTS, *TABLES))})")
    return files


def hub_id(path: str | PathLike) -> tuple[str, str | None]:
    """The data set and its configuration that `owner/name[:configuration]` names.

    Raises `FileNotFoundError` for what has not this form.
    """
    if not isinstance(path, str) or not HUB_ID.fullmatch(path):
        raise FileNotFoundError(f"{path}: no such file or folder")
    identifier, _, configuration = path.partition(":")
    return identifier, configuration or None


def _exists(path: str | PathLike) -> bool:
    if not isinstance(path, (str, PathLike)):
        return False
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it: a text
        return False


def _blocks(path: Path, encoding_errors: str) -> Iterator[str]:
    offset = 0
    with path.open("rb") as lines:
        while block := b"".join(lines.readlines(LINES_AT_A_TIME)):
            try:
                yield block.decode("utf-8", encoding_errors)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: not UTF-8 text at byte {offset + error.start} ({error.reason})") from error
            offset += len(block)


def _rows(label: str, text_column: str, *arguments, **options) -> Iterator[tuple[str, Iterator[str]]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(*arguments, split="train", streaming=True, **options)
        first = next(iter(rows), None)
    except Exception as error:  # `datasets` raises a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"{label}: cannot be read as a file or a data set of the Hub: {reason}") from error
    if first is None:
        return
    if text_column not in first:
        raise ValueError(f"{label}: no column {text_column!r}; there are {', '.join(first)}")
    for number, row in enumerate(rows):
        if row[text_column] is not None:
            yield f"{label}, row {number}", iter((row[text_column],))
