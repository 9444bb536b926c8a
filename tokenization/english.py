r"""The words of the 2018 encoder, as one pipeline of `tokenizers` that is stored whole in `tokenizer.json`.

OpenAI's GPT-1 was trained on the words that three programs made, one after another:

1. ftfy repairs the text: widths, ligatures, quotes, entities, mojibake, control characters, NFC (`repair.py`);
2. OpenAI's `text_standardize` respells five characters and puts blanks around runs of certain punctuation;
3. spaCy's English tokenizer cuts the text at blanks, then peels prefixes and suffixes off each piece, keeps or cuts
   some 900 special cases (`Mr.`, `don't`, `:D`), and cuts what is left at infixes.

Only then is a word put into lower case and split by BPE. spaCy's rules depend on case and on what the earlier ones
left, and a `tokenizers` pre-tokenizer cannot change case, so every cut is made in the *normalizer*: a rule matches an
empty place and puts a blank there. What follows is simple: lower case, split at blanks, BPE.

`WordRules.in_order` lists the rules. A *piece* is what stands between two blanks (the text starts with one); it gets
shorter as the rules go on, as spaCy's own string does. The sets of characters and words come from spaCy and ftfy by
way of `english_tables.json`, which `tests/tokenization/make_english_tables.py` writes; neither is needed here.

What still differs from the original, all of it rare outside markup and broken text:
- mojibake of other kinds than UTF-8 read as Windows-1252 or Mac Roman, or through control characters;
- HTML entities beyond the commonest, and those more than 500 characters after the last "<";
- an icon (such as a star) glued to `=`, `<`, a full stop or a special case;
- special cases that spaCy's phrase matcher finds again across pieces: three apostrophes in a row, a pair of them after
  a blank and a third (`' ''`), faces glued to a word (`x>.<`), a time glued to a colon (`:1am`);
- `^` between digits with a blank on one side, `<` before a letter with blanks on one side;
- more than `LONGEST_RUN` suffixes on one word, URLs of more than some hundred characters;
- the literal text of a special token, which is that token.

The patterns are Oniguruma's. What makes them fast: `\K` and `\G`; few passes; a leading class with a member outside
ASCII switches the search's first-byte map off, so those members are written as alternatives; one trie for all special
cases. What keeps them linear: every look-ahead and look-behind is bounded, or tried once for a piece or line.
"""

from functools import cache

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from .english_tables import tables
from .patterns import any_of, char_class, escape, trie
from .repair import normalizers_of_repair
from .spacing import decoder


# The other punctuation that is padded gets cut into characters by spaCy; runs of these stay whole
KEPT_WHOLE = set("-~/|\\")
INSIDE = "(?<=[^ ])"
END = "(?![^ ])"
LONGEST_RUN = 48
LONGEST_NAME = 99


class WordRules:
    """OpenAI's and spaCy's rules: the patterns that several of them share, then one method a rule.

    A rule is a pattern that matches empty places, where a blank goes.
    """

    def __init__(self) -> None:
        data = tables()
        self.classes: dict[str, set[str]] = data["classes"]
        self.specials: dict[str, list[str]] = data["special_cases"]
        self.cut_by: dict[str, list[str]] = data["cut_by"]
        # Special cases of several words. "wed.": cut as "wed", then spaCy finds the special case "d." in We d .
        self.cut = {text: words for text, words in self.specials.items() if len(words) > 1 and text[0] != "°"}
        for text, words in list(self.cut.items()):
            if words[-1] + "." in self.specials and text + "." not in self.specials:
                self.cut[text + "."] = [*words[:-1], words[-1] + "."]
        # Special cases that end in a full stop which would else be a suffix, without it
        stops = set(self.cut_by["suffix"]) | set(self.cut)
        self.abbreviations = {text[:-1] for text in stops if text.endswith(".")}

        self.padded = set(data["padded"]) | {"\n"}  # a line break is a word, too
        # Until a blank is before them, padded characters delimit pieces, too
        self.piece_start = f"(?<!{char_class(self.padded | {' '}, negated=True)})"
        self.piece_end = f"(?!{char_class(self.padded | {' '}, negated=True)})"
        self.units = set(data["units"])
        self.amount = f"(?:{trie(data['currencies'])}|{trie(self.units)})"
        suffix = "|".join(
            [
                "'[sS]",
                r"(?<!\.)\.\.++",
                char_class(self.classes["suffix"]),
                rf"(?<={char_class(self.classes['before_period'])})\.",
                rf"(?<={char_class(self.classes['upper']) * 2})\.",
                rf"(?<={escape('°')}[FfCcKk]|{escape('°')} [FfCcKk])\.",  # the degree sign may be cut off already
                f"(?<=[0-9]){self.amount}",
            ]
        )
        self.only_suffixes = f"(?:{suffix}){{0,{LONGEST_RUN}}}{self.piece_end}"
        self.suffixes = f"(?=(?:{suffix}){{1,{LONGEST_RUN}}}{self.piece_end})"

        self.letter = char_class(self.classes["letter"])
        self.letter_or_digit = char_class(self.classes["letter"] | set("0123456789"))
        self.before_stop = char_class((self.classes["lower"] | self.classes["quote"]) - self.padded)
        self.after_stop = char_class((self.classes["upper"] | self.classes["quote"]) - self.padded)
        label = rf"[A-Za-z0-9\x{{a1}}-\x{{ffff}}]{{1,{LONGEST_NAME}}}\."
        top_level = char_class(self.classes["lower"]) + "{2,63}"
        rest_of_host = rf"(?:{label}){{0,9}}{top_level}(?::\d{{2,5}})?"
        rest_of_url = rf"{rest_of_host}(?:\#[^ ]{{0,{LONGEST_NAME}}})?{self.only_suffixes}"
        before_address = f"[^ ]{{0,{LONGEST_NAME}}}@"
        after_fragment = rf"(?<![^ ]\#[^ ]{{0,{LONGEST_NAME}}})"
        # spaCy cuts no URL at infixes. After a full stop, and before another infix: what is not the rest of a URL
        self.unless_host = f"(?!(?:{before_address})?{rest_of_url}){after_fragment}"
        self.unless_address = f"(?!{before_address}{rest_of_url}){after_fragment}"

    def in_order(self) -> dict[str, str]:
        """The rules by their names."""
        return {
            "after punctuation, and prefixes": f"{self.after_punctuation()}|{self.prefixes()}",
            "before punctuation, suffixes, and after a full stop inside": "|".join(
                [self.before_punctuation(), self.suffixes_of_pieces(), self.after_stop_inside()]
            ),
            "contractions": self.contractions(),  # apart: a pattern that begins with one character is searched faster
            "before infixes": self.before_infixes(),
            "after infixes, and third words": f"{self.after_infixes()}|{self.third_words()}",
        }

    def after_punctuation(self) -> str:
        """text_standardize: a blank after each run of padded punctuation; and spaCy's after each of its characters."""
        runs = "|".join(rf"{escape(c)}\K(?=[^ {escape(c)}])" for c in sorted(KEPT_WHOLE))
        return rf"{char_class(self.padded - KEPT_WHOLE)}\K(?=[^ ])|{runs}"

    def prefixes(self) -> str:
        """A blank after each prefix of a piece, until the rest is a special case followed by suffixes alone."""
        whole = [text for text in self.cut_by["prefix"] if text != "''" and text[0] != "°"]
        after_apostrophe = trie(text[1:] for text in whole if text[0] == "'")
        # "'s." is cut as ' s. since "s." is a special case, too
        not_whole = "|".join(escape(t) + r"\." + self.piece_end for t in whole if t[1:] + "." in self.specials)
        is_whole = f"(?!{not_whole}){trie(whole)}{self.only_suffixes}"
        one = "|".join(
            [
                f"'(?='{after_apostrophe}{self.only_suffixes})",
                "''",  # a special case that spaCy finds again among the prefixes
                r"\.\.++",
                char_class(self.classes["prefix"]),
                r"US\$|[CA]\$",
            ]
        )
        begin = any_of(self.classes["prefix"] | set(".UCA"))
        rest = f"(?={char_class(self.padded | {' '}, negated=True)})"
        return rf"(?={begin})(?:{self.piece_start}|\G)(?!{is_whole})(?>{one})\K{rest}"

    def before_punctuation(self) -> str:
        """text_standardize: a blank before each run of padded punctuation; runs of two kinds are apart already."""
        return f"(?={char_class(self.padded)})(?<={char_class(self.padded | {' '}, negated=True)})"

    def suffixes_of_pieces(self) -> str:
        """A blank before each suffix of a piece, unless it belongs to a special case."""
        face = rf"(?!(?<= <)\.<{self.only_suffixes}|(?<= >)\.[<>]{self.only_suffixes})"  # <.< >.< >.>
        unless = self.unless_abbreviated()
        dropped_g = trie(text[:-1] for text in self.specials if text.endswith("'") and len(text) > 2)  # doin'
        apostrophe = f"(?:(?='[sS]{self.only_suffixes})|(?<!(?<!')')(?<! {dropped_g})|(?<= {dropped_g}'))"
        others = self.classes["suffix"] - {"'"}
        before_others = trie(text[:-1] for text in self.specials if len(text) > 1 and text[-1] in others)
        return "|".join(
            [
                # the commonest case first
                rf"(?=\.){INSIDE}(?:(?<=[a-z])(?=\.{self.piece_end})|{self.suffixes})(?:(?=\.\.)|{unless}){face}",
                rf"(?=\.)(?<={escape('°')}[FfCcKk]|{escape('°')} [FfCcKk]){self.suffixes}",
                # of two apostrophes the second stays: spaCy puts the pair together again
                f"(?='){INSIDE}{self.suffixes}{apostrophe}",
                f"(?={any_of(others)}){INSIDE}{self.suffixes}(?<! {before_others})",
                rf"[0-9]\K(?={self.amount}{self.only_suffixes})",
            ]
        )

    def unless_abbreviated(self) -> str:
        """Before a full stop: what does not make a special case with it.

        A special case is a whole piece, or what a later rule sets free by cutting at an infix or before a unit.
        """
        lettered = {text[:-1] for text in self.cut_by["suffix"] if text.endswith(".") and text[0].isalpha()}
        capital = {text for text in lettered if text[0].isupper()}
        # Most words do not even end like an abbreviation: a short look saves the long one
        ends = {text[-3:] for text in self.abbreviations if len(text) >= 3}
        unlike = f"(?<=[a-z]{{3}})(?<!{trie(ends)})"
        infix = rf"(?:{self.letter_or_digit}[:<>=]|\.\.|{escape('°')})"
        before = "|".join(
            [
                f" {trie(self.abbreviations)}",
                f"{infix}{trie(lettered)}",
                rf"{self.before_stop}\.{trie(capital)}",
                f"[0-9]{trie(self.abbreviations & self.units)}",
            ]
        )
        return f"(?:{unlike}|(?<!{before}))"

    def after_stop_inside(self) -> str:
        """`end.The`: a blank after the full stop, unless this is a URL or a name.

        A full stop with a blank after it is a suffix, and was cut off, or belongs to an abbreviation. So from here on
        one that has a blank after it, but none before it, is an infix (`before_infixes` puts the other blank).
        """
        names = [text for text in self.cut_by["infix"] if len(self.specials[text]) == 1]  # Ph.D. o.O
        cuts = [(text[: i + 1], text[i + 1 :]) for text in names for i in range(1, len(text) - 1) if text[i] == "."]
        not_name = "".join(rf"(?!(?<= {escape(first)}){escape(rest)}{self.only_suffixes})" for first, rest in cuts)
        place = rf"\.(?={self.after_stop})(?<={self.before_stop}\.)\K"
        return f"{place}{self.unless_host}{not_name}"

    def contractions(self) -> str:
        """A blank after the first word of the special cases of several words: do n't, gim me, 10 a.m."""
        heads_of: dict[str, set[str]] = {}
        for first, *rest in self.cut.values():
            heads_of.setdefault("".join(rest), set()).add(first)
        tails_of: dict[tuple[str, ...], set[str]] = {}
        for tail, heads in heads_of.items():
            tails_of.setdefault(tuple(sorted(heads)), set()).add(tail)
        cuts = "|".join(rf"{trie(heads)}\K(?={trie(tails)}{END})" for heads, tails in tails_of.items())
        two_letters = trie(text[:2] for text in self.cut)  # turns most words away sooner than the trie of all
        return f" (?={two_letters})(?={trie(self.cut)}{END})(?:{cuts})"

    def third_words(self) -> str:
        """Before the third word of a special case, `'ve` in `I 'd've`; the rule above has cut the first off."""
        before: dict[str, set[str]] = {}
        for first, *rest in self.cut.values():
            if len(rest) == 2:
                before.setdefault(rest[1], set()).add(first + " " + rest[0])
        places = []
        for third, pairs in before.items():
            if third[0] == "a":  # begin at the letter before, which is not so frequent
                (last,) = {pair[-1] for pair in pairs}
                places.append(rf"{last}\K(?={escape(third)}{END})(?<= {trie(pairs)})")
            else:
                places.append(f"(?={escape(third)}{END})(?<= {trie(pairs)})")
        return "|".join(places)

    def before_infixes(self) -> str:
        """A blank before: a full stop inside, dots, : < > = before a letter, ^ between digits, an icon."""
        # `ma` is what the last rule has left of "ima."
        rests = trie("".join(words[1:])[:-1] for text, words in self.cut.items() if text.endswith("."))
        return "|".join(
            [
                rf"(?=\. )(?<={self.before_stop})(?<! {rests}){self.unless_abbreviated()}",
                r"(?=\.\.)(?<=[^ .])",
                f"(?=[:<>=](?={self.letter}))(?<={self.letter_or_digit}){self.unless_address}",
                r"(?=\^[0-9])(?<=[0-9])",
                f"(?={self.latin_icon()}){INSIDE}",
            ]
        )

    def after_infixes(self) -> str:
        """A blank after the same, but for the full stop; `x :D` and `x =D` end in a special case."""
        face = f"(?!(?<=:)[DOPXopx]{END})(?!(?<==)D{END})"
        return "|".join(
            [
                r"\.\.\K(?=[^ .])",
                rf"[:<>=](?={self.letter})(?<={self.letter_or_digit} [:<>=])\K{face}",
                r"\^(?=[0-9])(?<=[0-9] \^)\K",
                rf"(?:{self.latin_icon()})\K(?=[^ ])",
            ]
        )

    def latin_icon(self) -> str:
        return "|".join(map(escape, sorted(self.classes["latin_icon"])))


@cache
def normalizer() -> normalizers.Sequence:
    """Text as it comes to lower-case words between blanks; made once, which takes about a second."""
    return normalizers.Sequence(
        [
            # First, and no Replace: `tokenizers` loses count of what a Replace inserts, or a map removes, at the start
            normalizers.Prepend(" "),
            *normalizers_of_repair(),
            normalizers.Strip(left=False),
            # of white space that holds line breaks one of them stays, and none at the start
            normalizers.Replace(Regex(r"(?:\n|\A )\K\s+"), " "),
            *(normalizers.Replace(Regex(pattern), " ") for pattern in WordRules().in_order().values()),
            normalizers.Replace(Regex(r"\x{3a3}(?<=\p{L}\x{3a3})(?!\p{L})"), "ς"),  # as str.lower does at a word's end
            normalizers.Lowercase(),
        ]
    )


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Words are what stands between blanks."""
    return pre_tokenizers.CharDelimiterSplit(" ")


def build_tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The 2018 text encoder over a BPE vocabulary whose symbols end words with `</w>`, `<unk>` among them.

    Raises `ValueError`, one line, if `<unk>` is missing or a merge names a symbol that is not in the vocabulary.
    """
    if "<unk>" not in vocab:
        raise ValueError("the vocabulary has no <unk>, which stands for characters that it does not know")
    for first, second in merges:
        for symbol in (first, second, first + second):
            if symbol not in vocab:
                raise ValueError(f"merge {first!r} {second!r}: {symbol!r} is not in the vocabulary")
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=False, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer()
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoder()
    return tokenizer
