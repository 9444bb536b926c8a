"""The ids are those of the 2018 encoder, on real text, on edited text, and rule by rule."""

import importlib
import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenization.tokenization_gpt1 import PACKAGED_TOKENIZER


REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = ["cola", "mctest", "mrpc", "sick", "sst2", "sts"]
# Every n-th text, so that all of it takes a minute or so; `benchmarks/tokenizer.py` goes through every text
STEPS = {
    "novels/train": 300,
    "novels/valid": 12,
    "wikitext2": 2,
    "mctest": 3,
    "sts": 4,
    "mrpc": 3,
    "sick": 2,
    "sst2": 2,
}
EDITS = "'\".-,:;!?()&%$£€°@#/_*=<>^~ \n\t’‘“”—–…éüñ½abstx0159ABTX"
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


def disagreements(texts, tokenizer, oracle):
    backend = tokenizer.backend_tokenizer
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    return [text for text, encoding in zip(texts, encodings, strict=True) if encoding.ids != oracle(text)]


def backend_words(tokenizer, text):
    backend = tokenizer.backend_tokenizer
    return backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))


@pytest.fixture(scope="module")
def plain(openai_tokenizer):
    """OpenAI's vocabulary, reading special tokens as the text they are."""
    openai_tokenizer.backend_tokenizer.encode_special_tokens = True
    yield openai_tokenizer
    openai_tokenizer.backend_tokenizer.encode_special_tokens = False


@pytest.mark.parametrize("name", [*TASKS, "novels/valid", "novels/train", "wikitext2"])
def test_every_text_of_ordinary_english_agrees(name, texts, plain, oracle):
    sample = texts[name][:: STEPS.get(name, 1)]
    assert len(sample) > 500
    assert disagreements(sample, plain, oracle) == []


def test_the_packaged_vocabulary_agrees_too(texts, tokenizer, oracle_class):
    """The same rules over other merges: the oracle over the packaged ones."""
    model = json.loads((PACKAGED_TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    oracle = oracle_class(model["vocab"], [tuple(merge.split(" ")) for merge in model["merges"]])
    assert disagreements(texts["novels/valid"][::40] + texts["mrpc"][::20], tokenizer, oracle) == []


def other_english():
    """Sentences in some sixty languages, markup and code: this repository's documents and Python files."""
    spacy_languages = pytest.importorskip("spacy.lang", reason="the sentences come from spaCy")
    languages = []
    for file in sorted(Path(spacy_languages.__path__[0]).glob("*/examples.py")):
        languages += importlib.import_module(f"spacy.lang.{file.parent.name}.examples").sentences
    samples = [languages]
    for patterns in (("*.md", "docs/*.md", "benchmarks/*.md"), ("tokenization/*.py",)):
        files = sorted(file for pattern in patterns for file in REPOSITORY.glob(pattern))
        texts = [file.read_text(encoding="utf-8") for file in files]
        samples.append([line for text in texts for line in text.split("\n") if line.strip()])
    return samples


def test_code_markup_and_other_languages(plain, oracle):
    for sample in other_english():
        assert len(disagreements(sample, plain, oracle)) <= len(sample) / 500


def test_every_special_case_agrees_in_every_surrounding(plain, oracle):
    """spaCy's special cases alone, after prefixes, before suffixes, recased, and joined to other words."""
    forms = [
        "{}",
        "({})",
        "'{}",
        "{}'",
        "{}.",
        "{},",
        '"{}."',
        "{}'s",
        "a {} b",
        "x{}",
        "{}x",
        "{}...",
        ":{}",
        "{}:",
        "{};",
    ]
    specials = [text for text in oracle.spacy.rules if text.strip()]
    sample = [form.format(text) for text in specials for form in forms]
    sample += [text.upper() for text in specials] + [text.title() for text in specials]
    failures = disagreements(sample, plain, oracle)
    assert len(failures) <= len(sample) / 500, failures[:20]


def test_every_character_agrees_alone(plain, oracle):
    """In a word, and before a blank. Lone C1 controls aside, which ftfy reads by their neighbours."""
    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    common = [c for c in assigned if c < "\u3400"]
    sample = [f"ab{c}cd" for c in common] + [f"a {c} b" for c in common] + [f"x {c}" for c in assigned[::37]]
    failures = disagreements(sample, plain, oracle)
    assert len(failures) <= len(sample) / 500, failures[:20]


@pytest.mark.parametrize(
    "text",
    [
        "He can't; they won't've.",
        "Mr.Smith met Dr. Who at 10a.m., e.g.here, i.e. 5km. off (10m.) at 20°C.",
        "end.The next.Word www.Foo.com a.B@c.de x=y a<b:c d..e f...G",
        "&lt;b&gt; &amp;amp; &quot;x&quot; it&#39;s &rsquo;n&hellip;",
        "&lt;one&gt;\n<two> &amp;\nthree &amp;",
        "crÃ¨me brÃ»lÃ©e, itâ€™s “fine” ‚Äôtis jirÃ\xad x",
        "''quoted'' ``so'' '.' doin'' ''",
        "£5 US$3 A$2 5$ 10% 3€ 7 %",
        "doin' nothin' o' the cat ol' boys' 'Cause 'em :) :D =D <3 >.< (a:)",
        "ﬁne ＦＵＬＬ　ｗｉｄｔｈ Ǆ ½ … — ´ \u2028 \x85 \x0b a\x00b \x1b[31mred\x1b[0m",
        "a\r\nb\rc\n\n\n d\t\te\u00a0f\u3000g",
        "★ a☃b 1^2 10^-3 «q» „r‟ ¿s? © ©️ ®",
        "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ İstanbul ẞ ǅ",
        "  ",
        "",
    ],
)
def test_rules(text, plain, oracle):
    words = [word for word, _ in backend_words(plain, text)]
    assert words == [word.strip(" ") for word in oracle.words(text)]
    assert plain.encode(text, add_special_tokens=False) == oracle(text)


def recased(text: str, seed: int) -> str:
    change = random.Random(seed)
    ways = [str.upper, str.lower, str.title, str.swapcase]
    if seed % 5 < 4:
        return ways[seed % 5](text)
    return "".join(c.upper() if change.random() < 0.3 else c for c in text)


def edited(text: str, seed: int) -> str:
    """Up to three characters put in, taken out, replaced or doubled at random places."""
    change = random.Random(seed)
    for _ in range(change.randint(1, 3)):
        at = change.randint(0, len(text))
        new = change.choice(["", change.choice(EDITS), text[at : at + 1] * 2])
        text = text[:at] + new + text[at + change.randint(0, 1) :]
    return text


@pytest.mark.parametrize("change", [recased, edited])
def test_changed_real_text_agrees_in_99_percent(change, texts, plain, oracle):
    choose = random.Random(7)
    pool = [text for name in [*TASKS, "novels/valid"] for text in choose.sample(texts[name], 250) if text]
    sample = [change(text, seed) for seed, text in enumerate(pool)]
    failures = disagreements(sample, plain, oracle)
    assert len(failures) <= len(sample) / 100, failures[:10]


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(data=st.data())
def test_edits_of_real_text_rarely_matter(data, texts, plain, oracle):
    """Where an edit does matter, no character is lost or put elsewhere, and hardly any cut differs."""
    text = data.draw(st.sampled_from(texts["mrpc"][::50]))
    for _ in range(3):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(EDITS, max_size=2)) + text[at:]
    ours, theirs = plain.encode(text, add_special_tokens=False), oracle(text)
    assert ours == theirs or abs(len(ours) - len(theirs)) <= 3
    characters = "".join(word for word, _ in backend_words(plain, text))
    assert "".join(oracle.words(text)).replace(" ", "") == characters


def test_tables_are_what_spacy_and_ftfy_hold(table_script):
    stored = table_script.TABLES.read_text(encoding="utf-8")
    made = table_script.tables()
    if made["versions"] != json.loads(stored)["versions"]:
        pytest.skip(f"the tables are those of {json.loads(stored)['versions']}, here {made['versions']}")
    assert table_script.dump(made) == stored
