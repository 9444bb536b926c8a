"""The sets of characters and words that spaCy and ftfy work with, as `english_tables.json` stores them."""

import json
from functools import cache
from importlib.resources import files


@cache
def tables() -> dict:
    """The stored tables, sets of characters unpacked."""
    content = json.loads(files(__package__).joinpath("english_tables.json").read_text(encoding="utf-8"))
    for name, ranges in content["classes"].items():
        bounds = [[int(code, 16) for code in part.split("-")] for part in ranges.split()]
        content["classes"][name] = {chr(code) for b in bounds for code in range(b[0], b[-1] + 1)}
    # Icons of one UTF-8 page with the Latin letters (the degree sign among them) take part in other rules, and emoji
    # variants of them are clusters that the character map would swallow: they are cut by rules, the others by the map
    icons = content["classes"]["icon"]
    content["classes"]["mapped_icon"] = {c for c in icons if ord(c) >= 0x800}
    content["classes"]["latin_icon"] = icons - content["classes"]["mapped_icon"]
    for name in ("prefix", "suffix"):
        content["classes"][name] |= content["classes"]["latin_icon"]
    return content
