"""Parts of Oniguruma patterns, the kind that `tokenizers.Regex` compiles."""

from collections.abc import Iterable


def escape(text: str) -> str:
    """`text` as a pattern that matches it alone."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def char_class(characters: set[str], negated: bool = False) -> str:
    """A character class of exactly these characters."""
    runs: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    body = "".join(escape(chr(a)) + ("" if a == b else "-" * (b > a + 1) + escape(chr(b))) for a, b in runs)
    return f"[{'^' * negated}{body}]"


def any_of(characters: set[str]) -> str:
    """One of `characters`, in the form that keeps the first-byte map: ASCII as a class, each other an alternative."""
    ascii_members = {c for c in characters if c.isascii()}
    return "|".join([char_class(ascii_members), *(escape(c) for c in sorted(characters - ascii_members))])


def trie(words: Iterable[str]) -> str:
    """A pattern that matches any of `words`, the longest first, reading each character once."""
    root: dict = {}
    for word in sorted(words):
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _trie_pattern(root)


def _trie_pattern(node: dict) -> str:
    by_rest: dict[str, set[str]] = {}
    for character, child in node.items():
        if character:
            by_rest.setdefault(_trie_pattern(child), set()).add(character)
    if not by_rest:
        return ""
    branches = [(escape(min(c)) if len(c) == 1 else char_class(c)) + rest for rest, c in by_rest.items()]
    if len(branches) == 1 and "" not in node:
        return branches[0]
    return f"(?:{'|'.join(branches)})" + "?" * ("" in node)
