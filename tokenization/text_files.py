"""The text of a file: its encoding, and its bytes as blocks of whole lines."""

import codecs
import io
import re
from collections.abc import Iterator
from os import PathLike


BLOCK = 1 << 22  # bytes
# The marks that UTF-16's begin with are the longer ones' beginnings
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What begins so is no text, whatever its name ends with
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive, as .xlsx and .ods are",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}


def check_encoding(encoding: str) -> None:
    """Raises `ValueError` for the name of no text encoding."""
    try:
        bytes(4).decode(encoding)
    except (LookupError, ValueError):
        raise ValueError(f"{encoding!r} is no encoding; such are utf-8, utf-16, cp1252 and shift_jis") from None


def read_blocks(path: str | PathLike, encoding: str | None = None, errors: str = "strict") -> Iterator[str]:
    """
    The text of a file in blocks of whole lines, line ends as they are, without a byte-order mark.

    Args:
        path: where it is.
        encoding: its own; if None UTF-8, or what its byte-order mark says.
        errors: what becomes of bytes that the encoding does not know, as in `bytes.decode`.

    Raises:
        OSError: a file that cannot be read.
        ValueError: one that is no text, or not of the encoding: the byte, and the encoding that is likely.
    """
    with open(path, "rb") as file:
        start = file.peek(4)[:4]
        for mark, kind in _OTHER_KINDS.items():
            if start.startswith(mark):
                raise ValueError(f"{path}: not text but {kind}")
        marked = next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")
        decoder = codecs.getincrementaldecoder(encoding or marked)(errors)
        offset, done = 0, False
        parts: list[str] = []  # of a line that is longer than a block
        while not done:
            raw = file.read(BLOCK)
            done = not raw
            kept = decoder.getstate()[0]  # the first bytes of a character that the last block ended in
            try:
                text = decoder.decode(raw, final=done)
            except UnicodeDecodeError as error:
                name, byte = (encoding or marked).upper(), offset - len(kept) + error.start
                raise ValueError(f"{path}: not {name} text at byte {byte}; {_likely(kept + raw)}") from error
            if offset == 0:
                text = text.removeprefix("\ufeff")
                if errors == "strict" and 10 * text.count("\0") > len(text):
                    raise ValueError(f"{path}: not text at byte {raw.index(0)}, which is null; {_likely(raw)}")
            offset += len(raw)
            end = len(text) if done else text.rfind("\n") + 1
            if end:
                yield "".join((*parts, text[:end]))
                parts.clear()
            parts.append(text[end:])
        if rest := "".join(parts):
            yield rest


def read_lines(path: str | PathLike, encoding: str | None = None) -> Iterator[str]:
    r"""The lines of [`read_blocks`] with their ends: `\n`, `\r\n` or `\r`, and no other."""
    for block in read_blocks(path, encoding):
        yield from io.StringIO(block, newline="")


def first_line(path: str | PathLike, encoding: str | None = None) -> str:
    """The first line that is not blank; empty where there is none."""
    return next((line for line in read_lines(path, encoding) if line.strip()), "")


def join_surrogates(text: str) -> str:
    """Halves of a character joined, and lone ones, which UTF-8 cannot hold, replaced by U+FFFD, as in ftfy."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _likely(raw: bytes) -> str:
    """What to try with bytes that are not UTF-8."""
    text = raw.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if 10 * raw.count(0) > len(raw):
        return f"likely utf-16-{'be' if raw.startswith(bytes(1)) else 'le'}: give --encoding"
    if sum(not character.isascii() for character in text) > 2 * broken:
        return "all but a few bytes are UTF-8: mend these"
    # Of languages in Latin letters, most bytes beyond ASCII stand alone
    runs = re.findall(rb"[\x80-\xff]+", raw)
    if 2 * sum(len(run) == 1 for run in runs) >= sum(map(len, runs)):
        return f"likely {next(name for name in ('cp1252', 'latin-1') if _decodes(raw, name))}: give --encoding"
    names = [name for name in ("shift_jis", "gb18030", "euc_kr", "cp1251") if _decodes(raw, name)]
    return f"likely {' or '.join(names) or 'no text'}: give --encoding"


def _decodes(raw: bytes, encoding: str) -> bool:
    """Whether these are such text, but for a character that is cut at the end."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(raw)
    except UnicodeDecodeError:
        return False
    return True
