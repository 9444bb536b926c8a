"""ftfy's repairs as rules of `tokenizers`: what happens to text before it is cut into words.

Nearly all of them replace one character by others wherever it stands, so one character map does them in one pass. What
is longer than a character, entities and mojibake, is first brought down to a mark and the character after it.
"""

import unicodedata

from tokenizers import Regex, normalizers

from .charsmap import compile_charsmap
from .english_tables import tables
from .patterns import char_class, escape


# Stand-ins for what begins mojibake or an entity: format characters, unused in English, that Unicode joins to the
# character after them, so that the character map sees both as one key (it looks up grapheme clusters)
LEAD_MARKS = {"Ã": "\u0600", "â€": "\u0602"}
ENTITY = "\u0604"
STRAY_MARK = "\u0601"  # what a mark becomes that was in the text: a format character of the same kind, no mark
# What stays of an entity's name, and what the entity means
ENTITIES = {"l": "<", "g": ">", "p": "&", "8": "&", "n": " ", "h": "-", "i": "..."}
ENTITIES |= dict.fromkeys("q401", '"') | dict.fromkeys("o967", "'")
GUARD = "\x01"  # a control character: ends a grapheme cluster, and the character map removes it
# Bounds on look-around, in characters
NEAR = 99
NEAR_TAG = 500


def character_map() -> dict[str, str]:
    """What is replaced wherever it stands: ftfy's tables, white space, repaired mojibake; icons get their blanks."""
    icons = tables()["classes"]["mapped_icon"]
    base = tables()["character_map"]

    def padded(text: str) -> str:
        return "".join(f" {c} " if c in icons else c for c in text)

    table = {c: padded(text) for c, text in base.items()}
    table |= {c: padded(c) for c in icons if c not in base}
    for lead, mark in LEAD_MARKS.items():
        for tail, meant in tables()["mojibake"][lead].items():
            table[mark + tail] = padded(base.get(meant, meant))
    for tail, meant in tables()["mojibake"]["‚Ä"].items():  # another encoding of the same lead, with other tails
        table[LEAD_MARKS["â€"] + tail] = padded(base.get(meant, meant))
    table |= {LEAD_MARKS["Ã"] + chr(code): "í" + chr(code) for code in range(0x20, 0x7F)}
    table |= {ENTITY + kept: meant for kept, meant in ENTITIES.items()}
    return table


def guard_pattern(mapped: dict[str, str]) -> str:
    """The place between a mapped character and a mark that combines with it.

    The two make one cluster, and the character map replaces clusters of up to five bytes whole: it would lose the
    mark.
    """
    two_bytes = {c for c in mapped if len(c) == 1 and "\xa0" <= c < "\u0800"}
    more = char_class({c for c in mapped if len(c) == 1 and c >= "\u0800"})
    marks = {c for c in map(chr, range(0x300, 0x800)) if unicodedata.category(c) in ("Mn", "Me")}
    after_two = rf"(?:{'|'.join(map(escape, sorted(two_bytes)))})\K(?=[\p{{M}}\x{{200c}}\x{{200d}}])"
    return rf"{after_two}|(?={'|'.join(map(escape, sorted(marks)))})(?<={more})"


# Names of entities: what goes with the "&", the character that stays, what goes after it
NAMES = [
    *[("", "[lg]", "t"), ("", "q", "uot"), ("", "n", "bsp"), ("am", "p", ""), ("ap", "o", "s"), ("#0*3", "[489]", "")],
    *[("[mn]das", "h", ""), ("hell", "i", "p"), ("[lr]squ", "o", ""), ("[lr]d", "q", "uo")],
    *[("#821", "[67]", ""), ("#822", "[01]", "")],
]


def entity_rules() -> list[tuple[str, str, str]]:
    """The commonest entities, each brought down to a mark and one character of its name, which the map then reads.

    Each rule, here and below, is (name, pattern, replacement).
    """
    entity = "(?:(?:amp|#0*38);)*(?:" + "|".join(f"{head}(?={kept}{rest};)" for head, kept, rest in NAMES) + ")"
    # ftfy reads no entity from the first line on that holds "<". Here: none that has "<" before it or later in its
    # line, as far as we look; a look at all of the text for each entity would take quadratic time
    no_tag = rf"(?<!<[^<]{{0,{NEAR_TAG}}}&)(?![^<\n]{{0,{NEAR_TAG}}}<)"
    return [("entities", f"&(?={entity}){no_tag}{entity}", ENTITY)]


def mojibake_rules() -> list[tuple[str, str, str]]:
    """UTF-8 that was read as another encoding: the lead becomes a mark that the map reads with the next character."""
    leads = tables()["mojibake"]
    # Control characters do not join the mark before them. Of these the soft hyphen, in "í", matters: it goes into the
    # mark, which then joins the next character
    tails = {lead: char_class({t for t in tails if t >= "\xa0" and t != "\xad"}) for lead, tails in leads.items()}
    # Mac Roman is read only where the whole line (here: its neighbourhood) can be that
    foreign = char_class(set(bytes(range(256)).decode("macroman")), negated=True)
    near = rf"[^\n]{{0,{NEAR}}}"
    mac_roman = rf"{escape('‚Ä')}(?={tails['‚Ä']})(?!{near}{foreign})(?<!{foreign}{near})"
    return [
        ("mojibake Ã", rf"{escape('Ã')}(?:(?={tails['Ã']})|\x{{ad}}(?=[\x{{20}}-\x{{7e}}]))", LEAD_MARKS["Ã"]),
        ("mojibake â€", f"{escape('â€')}(?={tails['â€']})", LEAD_MARKS["â€"]),
        ("mojibake ‚Ä", mac_roman, LEAD_MARKS["â€"]),
    ]


def dropped_rule() -> tuple[str, str, str]:
    """NUL, which the map cannot hold; the codes of terminals; "Â" where what follows is meant; rests of entities."""
    a_hat, tails = escape("Â"), char_class({tail for tail in tables()["mojibake"]["Â"] if tail >= "\xa0"})
    rests = "|".join(rf"{kept}\K{rest};" for _, kept, rest in NAMES)
    pattern = rf"\x{{0}}|\x{{1b}}\[[\d;]*+[a-zA-Z]|{a_hat}(?={tails}|(?<=[a-z]{a_hat}) )|{escape(ENTITY)}(?:{rests})"
    return ("dropped", pattern, "")


def normalizers_of_repair() -> list[normalizers.Normalizer]:
    """The steps, in their order."""
    mapped = character_map()
    marks = "|".join(map(escape, [*LEAD_MARKS.values(), ENTITY]))
    rules = [
        ("marks", marks, STRAY_MARK),
        *entity_rules(),
        dropped_rule(),
        *mojibake_rules(),
        ("guard", guard_pattern(mapped), GUARD),
    ]
    return [
        *(normalizers.Replace(Regex(pattern), text) for _, pattern, text in rules),
        normalizers.Precompiled(compile_charsmap(mapped)),
        normalizers.NFC(),
    ]
