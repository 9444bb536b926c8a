"""Learning a BPE: right merges, the same every time, from every kind of source, and clear errors."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from tokenization import GPT1Tokenizer, train_bpe
from tokenization.report import train_tokenizer
from tokenization.train import count_words


TEXT = "It's low, lower and lowest. He isn't slow; they're slower. The new newest widest window.\n" * 3


def merges_of(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]


def digest(tokenizer):
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def test_words_are_those_of_the_whole_text(texts, tokenizer):
    """Counting stretches between blanks gives what the rules make of the whole text."""
    sample = texts["novels/valid"][:4000] + texts["mrpc"][:1500]
    counted, size = count_words(sample)
    assert size == sum(len(text.encode()) for text in sample)
    backend = tokenizer.backend_tokenizer
    expected = Counter()
    for text in sample:
        expected.update(word for word in backend.normalizer.normalize_str(text).split(" ") if word not in ("", "\n"))
    assert counted == expected


def test_every_merge_in_turn_is_a_most_frequent_pair(texts):
    sample = texts["mrpc"][:150]
    words, _ = count_words(sample)
    merges = [tuple(merge) for merge in merges_of(train_bpe(sample, num_merges=60, show_progress=False))]
    segmented = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for merge in merges:
        pairs = Counter()
        for word, symbols in segmented.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        assert pairs[merge] == max(pairs.values())
        for symbols in segmented.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == merge:
                    symbols[i : i + 2] = ["".join(merge)]
                i += 1


AGAIN = """
import hashlib, sys
from pathlib import Path
from tokenization import train_bpe
tokenizer = train_bpe(Path(sys.argv[1]), num_merges=2000, show_progress=False)
print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_two_trainings_give_the_same_hash(data_dir):
    """In two processes: the order of hash tables differs between them, not within one."""
    novel = min((data_dir / "novels" / "valid").glob("*.txt"))
    hashes = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", AGAIN, str(novel)]
        hashes.add(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    assert len(hashes) == 1


def test_sources_give_the_same(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "books" / "b.txt").write_text(TEXT, encoding="utf-8")
    rows = "\n".join(json.dumps({"text": TEXT}) for _ in range(2))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    folder = tmp_path / "books"
    sources = [folder, str(folder), [folder / "a.txt", str(folder / "b.txt")], [TEXT, TEXT], (t for t in (TEXT, TEXT))]
    sources += [tmp_path / "rows.jsonl"]
    assert len({digest(train_bpe(source, num_merges=20, show_progress=False)) for source in sources}) == 1


def test_no_merges_give_characters():
    tokenizer = train_bpe(["ab cd"], num_merges=0, min_frequency=1, show_progress=False)
    assert tokenizer.tokenize("Abc Zq~") == ["a", "b", "c</w>", "z", "q</w>", "~</w>"]


def test_the_alphabet_holds_printable_ascii_whatever_the_corpus():
    tokenizer = train_bpe(["да да да нет нет"], num_merges=3, show_progress=False)
    ids = tokenizer("".join(chr(code) for code in range(0x21, 0x7F)), split_special_tokens=True).input_ids
    assert tokenizer.unk_token_id not in ids
    assert "д" in tokenizer.get_vocab()
    assert tokenizer.tokenize("a\nb") == ["a</w>", "\n</w>", "b</w>"]


@pytest.mark.parametrize(
    ("source", "kwargs", "error", "message"),
    [
        (["one"], {"num_merges": 100, "min_frequency": 1}, ValueError, "yields 2 merges"),
        (["x y z"], {}, ValueError, "yields 0 merges"),
        ([], {}, ValueError, "no words"),
        ([" \n"], {}, ValueError, "no words"),
        ([TEXT], {"num_merges": -1}, ValueError, "num_merges is -1"),
        ([TEXT], {"min_frequency": 0}, ValueError, "min_frequency is 0"),
        ([b"bytes"], {}, TypeError, "not of bytes"),
        (b"bytes", {}, ValueError, "not bytes"),
        ("no/such/file.txt", {}, FileNotFoundError, "no such file"),
    ],
)
def test_bad_corpora_get_one_clear_error(source, kwargs, error, message):
    with pytest.raises(error, match=message) as raised:
        train_bpe(source, show_progress=False, **kwargs)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"body": "x"}\n', encoding="utf-8")
    for name, message in [
        ("latin.txt", "not UTF-8"),
        ("empty", "no text in this folder"),
        ("rows.jsonl", "no column 'text'"),
    ]:
        with pytest.raises(ValueError, match=message):
            train_bpe(tmp_path / name, show_progress=False)


def test_the_folder_that_training_writes(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    out = tmp_path / "new" / "tokenizer"
    report = train_tokenizer(
        [tmp_path / "text.txt"],
        out,
        num_merges=30,
        held_out=tmp_path / "text.txt",
        task_format=True,
        show_progress=False,
    )
    names = ["README.md", "report.json", "report.png", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(file.name for file in out.iterdir()) == names
    assert report == json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["merges"] == 30
    assert report["held_out_unknown"] == 0
    loaded = GPT1Tokenizer.from_pretrained(out)
    assert loaded.task_format
    ids = loaded(TEXT, add_special_tokens=False).input_ids
    assert report["held_out_bytes_per_token"] == pytest.approx(len(TEXT.encode()) / len(ids), rel=0.05)
    words, _ = count_words([TEXT])
    last = "".join(report["last_merge"].split(" "))
    assert report["last_merge_frequency"] == sum(n * loaded.tokenize(w).count(last) for w, n in words.items())
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "30 merges" in card
    assert "`text.txt`" in card
    with pytest.raises(FileExistsError, match="not empty"):
        train_tokenizer([tmp_path / "text.txt"], out, num_merges=30, show_progress=False)


def test_a_failed_training_leaves_nothing(tmp_path):
    (tmp_path / "text.txt").write_text("few words", encoding="utf-8")
    with pytest.raises(ValueError, match="merges"):
        train_tokenizer([tmp_path / "text.txt"], tmp_path / "out", show_progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["text.txt"]
