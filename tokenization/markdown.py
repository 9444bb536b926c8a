"""Names that others have chosen, escaped for the place in a card where each lands; YAML has its own library."""

import json
import re


def text(name: object) -> str:
    """One line that shows as it is, also in a cell of a table."""
    return re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", one_line(name))


def code(name: object) -> str:
    """A code span, outside of tables."""
    content = one_line(name)
    ticks = _longer_than_in(content, 1)
    space = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{ticks}{space}{content}{space}{ticks}"


def block(content: str, language: str) -> str:
    """A block of code, as many lines as it has."""
    fence = _longer_than_in(content, 3)
    return f"{fence}{language}\n{content}\n{fence}"


def literal(name: str) -> str:
    """A string of Python."""
    return json.dumps(name, ensure_ascii=False)


def one_line(name: object) -> str:
    """Without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(name)).split())


def _longer_than_in(content: str, least: int) -> str:
    return "`" * max(least, *(len(ticks) + 1 for ticks in re.findall("`+", content)), 0)
