"""`CorpusEncoder` gives the tokenizer's ids for every line."""

import random

import pytest

from tokenization import CorpusEncoder, GPT1Tokenizer, encode
from tokenization.english import WordRules


# Stretches that rules read, or might, together with their neighbours
TRICKY = [
    *["I", "'d've", "how", "'d'y", "ca", "n't've", "i", "ma", "'ma,", "ma'am", "‘d've", "I'd", "'ve", "“I", "d've"],
    *[
        "x",
        ":y",
        ":D",
        "=D",
        ":Dx",
        ">y",
        "2",
        "^3",
        "^",
        "20",
        "°",
        "C.",
        "°C.",
        "F",
        "crÃ",
        "¨me",
        "Â",
        "aÂ",
        "Ã\xad",
    ],
    *[
        "&amp;",
        "<b>",
        "<",
        "&lt;",
        "‚Äô",
        "☃",
        "â€™",
        "end.",
        ".",
        "..",
        "...",
        "Mr.",
        "e.g.",
        "a.B",
        "'",
        "''",
        "'''",
    ],
    *[
        "_start_",
        "x<pad>y",
        "\x85",
        "a\xa0b",
        "\tc",
        "\u0301e",
        "e\u0301",
        "",
        "",
        "Σ",
        "ΑΣ",
        "ﬁ",
        "…",
        "—",
        "5km.",
        "10a.m.",
    ],
    *[
        "\ud800",
        "\U0001f642",
        "\x00",
        "\x1b[31m",
        "don't",
        "https://a.bc",
        "a@b.cd",
        "A.",
        "U.S.",
        "$5",
        "5$",
        "doin'",
    ],
]


@pytest.mark.parametrize("split_special_tokens", [False, True])
def test_tricky_neighbours(split_special_tokens):
    tokenizer = GPT1Tokenizer(split_special_tokens=split_special_tokens)
    choose = random.Random(1)
    stretches = TRICKY + choose.sample(sorted(WordRules().specials), 200)
    lines = [" ".join(choose.choices(stretches, k=choose.randint(1, 6))) for _ in range(6000)]
    lines += [f"{first} {second}" for first in TRICKY for second in TRICKY]
    encoder = CorpusEncoder(tokenizer)
    for start in range(0, len(lines), 1000):  # a cache that grows
        block = lines[start : start + 1000]
        assert encoder(block) == tokenizer(block, add_special_tokens=False, verbose=False).input_ids


@pytest.mark.parametrize("largest_cache", [encode.LARGEST_CACHE, 1000])
def test_real_text(largest_cache, texts, tokenizer, monkeypatch):
    monkeypatch.setattr(encode, "LARGEST_CACHE", largest_cache)
    sample = [text for name in texts for text in texts[name][:: 200 if name == "novels/train" else 20]]
    encoder = CorpusEncoder(tokenizer)
    encoded = [ids for start in range(0, len(sample), 500) for ids in encoder(sample[start : start + 500])]
    assert encoded == tokenizer(sample, add_special_tokens=False, verbose=False).input_ids


def test_tokens_of_several_words():
    tokenizer = GPT1Tokenizer()
    before = CorpusEncoder(tokenizer)
    tokenizer.add_tokens(["new york", "Paris"])
    lines = ["in new york or Paris", "new", "york"]
    assert CorpusEncoder(tokenizer)(lines) == tokenizer(lines).input_ids
    assert before(lines) == GPT1Tokenizer()(lines).input_ids


def test_no_template_padding_or_truncation(tokenizer):
    tasks = GPT1Tokenizer(task_format=True)
    tasks(["a", "b c d"], padding=True, truncation=True, max_length=4)
    assert CorpusEncoder(tasks)(["a", "b c d e f", ""]) == tokenizer(["a", "b c d e f", ""]).input_ids
    assert CorpusEncoder(tokenizer)([]) == []
