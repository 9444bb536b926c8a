"""A character map in the form that `tokenizers.normalizers.Precompiled` reads.

One pass over the text replaces any of hundreds of characters, where a list of `Replace` steps would take a pass each.
The format is SentencePiece's: a little-endian byte count, a Darts double-array trie over the UTF-8 bytes of the keys,
then the replacements, each ended by a zero byte. A trie unit holds, as 32 bits: the byte it was reached by (0-7),
whether a key ends here (8), and the offset of its children (10-30); a key's value is a unit of its own, with bit 31
set.
"""

import struct


_HAS_VALUE = 1 << 8
_IS_VALUE = 1 << 31
_EMPTY = _IS_VALUE | 0xFF  # a unit that no byte leads to


def compile_charsmap(table: dict[str, str]) -> bytes:
    """The bytes of a precompiled character map; keys are whole grapheme clusters of at most five UTF-8 bytes."""
    replacements, address = b"", {}
    for text in sorted(set(table.values())):
        address[text] = len(replacements)
        replacements += text.encode() + b"\0"
    root: dict = {}
    for key, text in sorted(table.items()):
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = address[text]  # no key holds a zero byte: 0 marks a key's end
    trie = _double_array(root)
    return struct.pack("<I", len(trie)) + trie + replacements


def _double_array(root: dict) -> bytes:
    """The trie as Darts units: the child of unit `u` by byte `b` lies at `u ^ offset(u) ^ b`."""
    units = {0: 0}
    bases: set[int] = set()
    pending = [(root, 0)]
    base = 1
    while pending:
        node, position = pending.pop()
        base = max(1, base - 256)  # first fit from a little before the last: what lies further back is nearly full
        while base in bases or any(base ^ byte in units for byte in node):
            base += 1
        bases.add(base)
        units[position] |= (base ^ position) << 10
        for byte, child in node.items():
            if byte == 0:
                units[position] |= _HAS_VALUE
                units[base] = _IS_VALUE | child
            else:
                units[base ^ byte] = byte
                pending.append((child, base ^ byte))
    size = (max(max(units), max(bases) | 0xFF) | 0xFF) + 1
    return struct.pack(f"<{size}I", *(units.get(index, _EMPTY) for index in range(size)))
