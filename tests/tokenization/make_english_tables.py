"""Write `tokenization/english_tables.json`: what the rules of `tokenization/english.py` need from spaCy and ftfy.

Run from the repository root, with the development extras installed:

    python tests/tokenization/make_english_tables.py

The tables are stored so that neither library is needed to build, train or use a tokenizer. A test regenerates them and
compares. Sets of characters are written as hexadecimal ranges, `"41-5a c0"`.
"""

import json
import re
import unicodedata
from pathlib import Path

import ftfy
import spacy
from ftfy import chardata
from spacy.lang import char_classes
from spacy.symbols import ORTH


TABLES = Path(__file__).resolve().parents[2] / "tokenization" / "english_tables.json"

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
# OpenAI's text_standardize: five characters are respelled, and runs of these get a space on both sides
RESPELLED = {"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"}
PADDED = set('-~!";?+,)(\\/*[]}{|_')
# Leads of mojibake (UTF-8 read as another encoding): the lead's characters, its bytes, the encoding of what follows
MOJIBAKE_LEADS = [("Â", b"\xc2", "cp1252"), ("Ã", b"\xc3", "cp1252"), ("â€", b"\xe2\x80", "cp1252")]
MACROMAN_LEAD = ("‚Ä", b"\xe2\x80", "macroman")


def ranges(characters):
    """A set of characters as sorted hexadecimal ranges."""
    runs = []
    for code in sorted(map(ord, characters)):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in runs)


def characters_of(pattern):
    return {character for character in CHARACTERS if re.fullmatch(pattern, character)}


def standardize(text):
    """What the 2018 encoder does before spaCy: ftfy, then OpenAI's standardisation."""
    for old, new in RESPELLED.items():
        text = text.replace(old, new)
    return text


def character_map():
    """Every character that ftfy and the standardisation replace by themselves, wherever it stands.

    ftfy's own tables, composed in its order: C1 controls, ligatures, widths, quotes, line breaks, control characters.
    Other white space is listed as a blank. Runs to a fixed point, as ftfy does.
    """
    table = {}
    for code in range(0x80, 0xA0):
        table[chr(code)] = bytes([code]).decode("sloppy-windows-1252")
    table.update({chr(code): text for code, text in chardata.LIGATURES.items()})
    table.update({chr(code): text for code, text in chardata.WIDTH_MAP.items()})
    table.update({c: "'" for c in CHARACTERS if chardata.SINGLE_QUOTE_RE.match(c)})
    table.update({c: '"' for c in CHARACTERS if chardata.DOUBLE_QUOTE_RE.match(c)})
    table.update({"\r\n": "\n", "\r": "\n", "\u2028": "\n", "\u2029": "\n"})
    table.update({chr(code): "" for code in chardata.CONTROL_CHARS if code})  # NUL is removed by a step of its own
    table.update(RESPELLED)
    for c in CHARACTERS:
        if c.isspace() and c not in table and c not in " \n":
            table[c] = " "

    for c in CHARACTERS:  # NFC comes after these tables, but before the respelling: U+1FFD becomes an acute accent
        composed = unicodedata.normalize("NFC", c)
        if composed != c and composed in RESPELLED:
            table[c] = composed

    def fixed_point(text):
        replaced = "".join(table.get(c, c) for c in text)
        return text if replaced == text else fixed_point(replaced)

    # the C1 bytes that Windows-1252 does not define stay themselves
    return {c: fixed_point(text) for c, text in sorted(table.items()) if fixed_point(text) != c}


def mojibake():
    """What follows each lead, and the character that ftfy makes of both; only what ftfy repairs inside a word."""
    found = {lead: {} for lead, _, _ in MOJIBAKE_LEADS} | {MACROMAN_LEAD[0]: {}}
    for lead, head, encoding in [*MOJIBAKE_LEADS, MACROMAN_LEAD]:
        for byte in range(0x80, 0xC0):
            tails = {bytes([byte]).decode("latin-1")} if encoding == "cp1252" else set()
            tails.add(bytes([byte]).decode("sloppy-windows-1252" if encoding == "cp1252" else encoding))
            meant = (head + bytes([byte])).decode("utf-8")
            for tail in tails:
                expected = ftfy.fix_text("ab" + meant + "cd")
                if len(tail.encode()) <= 3 and ftfy.fix_text("ab" + lead + tail + "cd") == expected:
                    found[lead][tail] = meant
    # the same pair of leads would be read twice: Windows-1252 wins, as in ftfy's order
    first = found["â€"]
    found[MACROMAN_LEAD[0]] = {tail: meant for tail, meant in found[MACROMAN_LEAD[0]].items() if tail not in first}
    return {lead: dict(sorted(tails.items())) for lead, tails in found.items()}


def tables():
    tokenizer = spacy.blank("en").tokenizer
    icons = characters_of("[" + char_classes.ICONS + "]")
    specials = {}
    for text, pieces in tokenizer.rules.items():
        padded = any(c in PADDED for c in text)
        if text.strip() and not padded and standardize(ftfy.fix_text(text)) == text:
            specials[text] = [piece[ORTH] for piece in pieces]
    before_period = "[0-9{lower}{extra}{punct}(?:{quotes})]".format(
        lower=char_classes.ALPHA_LOWER, extra=r"%²\-\+", punct=char_classes.PUNCT, quotes=char_classes.CONCAT_QUOTES
    )
    return {
        "versions": {"spacy": spacy.__version__, "ftfy": ftfy.__version__},
        "character_map": character_map(),
        "mojibake": mojibake(),
        "padded": "".join(sorted(PADDED)),
        "classes": {
            "prefix": ranges({c for c in CHARACTERS if tokenizer.find_prefix(c) == 1} - PADDED - icons),
            "suffix": ranges({c for c in CHARACTERS if tokenizer.find_suffix(c) == 1} - PADDED - icons),
            "icon": ranges(icons),
            "lower": ranges(characters_of("[" + char_classes.ALPHA_LOWER + "]")),
            "upper": ranges(characters_of("[" + char_classes.ALPHA_UPPER + "]")),
            "letter": ranges(characters_of("[" + char_classes.ALPHA + "]")),
            "quote": ranges(characters_of("[" + char_classes.CONCAT_QUOTES + "]")),
            "before_period": ranges(characters_of(before_period)),
        },
        "currencies": sorted({unit.replace("\\", "") for unit in char_classes.LIST_CURRENCY}),
        "units": sorted({unit for unit in char_classes.LIST_UNITS if unit and not PADDED & set(unit)}),
        "special_cases": dict(sorted(specials.items())),
        # special cases that spaCy would cut, were they not special: its phrase matcher finds these again after cutting
        "cut_by": {
            name: sorted(text for text in specials if len(text) > 1 and find(text))
            for name, find in (
                ("prefix", tokenizer.find_prefix),
                ("suffix", tokenizer.find_suffix),
                ("infix", tokenizer.find_infix),
            )
        },
    }


def dump(content):
    return json.dumps(content, ensure_ascii=True, indent=1) + "\n"


if __name__ == "__main__":
    TABLES.write_text(dump(tables()), encoding="utf-8")
    print(f"{TABLES}: {TABLES.stat().st_size:,} bytes")
