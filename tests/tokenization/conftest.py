"""Real text to test on."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

from tokenization import GPT1Tokenizer


def text_sets(data: Path) -> dict[str, list[str]]:
    """The texts of every data set in a folder, paragraphs of novels included; empty where there is none."""
    sets: dict[str, list[str]] = {}
    for folder in sorted((data / "tasks").glob("*")):
        texts = sets.setdefault(folder.name, [])
        for file in sorted(folder.glob("*.csv")):
            with file.open(encoding="utf-8", newline="") as lines:
                rows = csv.DictReader(lines)
                texts += [row[name] for row in rows for name in row if name not in ("label", "score", "relatedness")]
        for file in sorted(folder.glob("*.jsonl")):
            for line in file.open(encoding="utf-8"):
                row = json.loads(line)
                texts += [row["article"], row["question"], *row["options"]]
    for name in ("valid", "train"):
        files = sorted((data / "novels" / name).glob("*.txt"))
        if files:
            sets[f"novels/{name}"] = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")]
    if (data / "wikitext2").is_dir():
        sets["wikitext2"] = (data / "wikitext2" / "valid.txt").read_text(encoding="utf-8").split("\n")
    return sets


@pytest.fixture(scope="session")
def oracle_class(load_module) -> type:
    pytest.importorskip("spacy", reason="the reference needs spaCy")
    pytest.importorskip("ftfy", reason="the reference needs ftfy")
    return load_module("tests/tokenization/oracle.py").Oracle


@pytest.fixture(scope="session")
def table_script(load_module) -> ModuleType:
    pytest.importorskip("spacy", reason="the tables come from spaCy")
    pytest.importorskip("ftfy", reason="the tables come from ftfy")
    return load_module("tests/tokenization/make_english_tables.py")


@pytest.fixture(scope="session")
def texts(data_dir) -> dict[str, list[str]]:
    return text_sets(data_dir)


@pytest.fixture(scope="session")
def oracle(data_dir, oracle_class):
    return oracle_class.from_openai(data_dir / "openai_bpe")


@pytest.fixture(scope="session")
def openai_tokenizer(data_dir) -> GPT1Tokenizer:
    folder = data_dir / "openai_bpe"
    return GPT1Tokenizer.from_openai(folder / "encoder_bpe_40000.json", folder / "vocab_40000.bpe")


@pytest.fixture(scope="session")
def tokenizer() -> GPT1Tokenizer:
    return GPT1Tokenizer()
