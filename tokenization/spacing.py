r"""Natural spacing for decoded text, as a decoder that is stored in `tokenizer.json`.

The 2018 encoder marks a word's end, so its plain text is `" do n't say \" no \" , he said ."`. This decoder writes
` don't say "no", he said.` instead. Three things shape its rules:

- **A blank stands before a word, not after it**, the first word included: pieces that are decoded apart (prompt and
  continuation in `pipeline("text-generation")`, lines in a `TextStreamer`) join without gluing words. Strip the text
  where the first blank is unwanted.
- **No blank depends on what comes after the next token**: streamers print all but the last word of the text so far,
  so what they printed must not change. So a rule looks only to its left and at the word (a complete one) on its right.
- **Case and the original blanks are lost**: `word - word` may have been a hyphen or a dash. Hyphens are commoner.
"""

import re
from collections.abc import Iterable

from tokenizers import Regex, decoders


SPECIAL = ("_start_", "_delimiter_", "_classify_", "<pad>", "<unk>")
_LINE = r"(?:\A|\n)"
_ALONE = r"(?<![^ (\[{\"\n-])'(?=[ .,;:?!%)\]}\"])"  # an apostrophe that is a word
# How far to go: where nothing is open, to an apostrophe alone, but for one after an s, which marks a possessive;
# inside quotes, to the blank before the one that closes. The bound keeps a line of megabytes below Oniguruma's limit
# of steps
_OUTSIDE = rf"(?>(?:[^'\n]++|(?!{_ALONE})'|(?<=s )'){{0,50000}})"
_TO_APOSTROPHE = rf"(?>(?:[^' \n]++|(?!{_ALONE})'| (?!{_ALONE})){{0,50000}})"
_TO_QUOTE = r'(?>(?:[^" \n]++| (?!")){0,50000})'

_RULES = [
    # special cases that were cut
    (r"(?<= gon) (?=na )|(?<= got) (?=ta )|(?<= gim| lem) (?=me )|(?<= y') (?=all )|(?<= can) (?=not )", ""),
    (r"(?<= do| ca| wo| did| does| is| are| was| could| would| should| has| have| had) (?=nt )", ""),
    # what leans on the word before it
    (r" (?=(?:[.,;:?!%)\]}]|\.\.+|n't|'(?:s|m|d|re|ve|ll)|'') )", ""),
    # what leans on the word after it, or on both
    (r"(?<= [(\[{$£€#`]|\"[(\[{$£€#`]|``) ", ""),
    (r"(?<=\w) (?=[\-/](?:[ .,;:?!%)\]}']|n't))", ""),  # whatever leans on the hyphen in turn
    (r"(?<=\w[\-/]) (?=\w)", ""),
    (r"(?<=\d,) (?=000 )", ""),
    # quotes open and close in turn, anew on every line: no blank after one that opens, nor before one that closes
    (rf'(?:{_LINE}[^"\n]*+|\G(?!\A)[^"\n]*+"[^"\n]*+)"\K ', ""),
    (rf'(?:{_LINE}[^"\n]*+"|\G(?!\A)"[^"\n]*+"){_TO_QUOTE}\K (?=")', ""),
    (rf"(?:{_LINE}{_OUTSIDE}'|\G(?!\A)'{_OUTSIDE}'){_TO_APOSTROPHE}\K (?={_ALONE})", ""),
    (rf"(?<=s) (?={_ALONE})", ""),
    (rf"{_ALONE}\K ", ""),
    (r" ?\n ?", "\n"),
    (r" +\z", ""),
]


def decoder(alone: Iterable[str] = SPECIAL) -> decoders.Sequence:
    """
    Tokens to text: `</w>` to blanks, one string, a blank before its first word, then the rules. The tokens `alone`
    stand for themselves between blanks, as words do.
    """
    steps = [
        decoders.Replace(Regex(rf"\A(?:{'|'.join(map(re.escape, alone))})\K\z"), " "),
        decoders.Replace("</w>", " "),
        decoders.Fuse(),
        decoders.Replace(Regex(r"\A"), " "),
    ]
    steps += [decoders.Replace(Regex(pattern), text) for pattern, text in _RULES]
    return decoders.Sequence(steps)
