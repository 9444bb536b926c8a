"""Real text to test on, from the folder that `GPT1_DATA` names, else from `../shared/data` beside the repository."""

import csv
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from tokenization import GPT1Tokenizer


DATA = Path(os.environ.get("GPT1_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def text_sets() -> dict[str, list[str]]:
    """The texts of every data set, paragraphs of novels included; empty where there is no data."""
    sets: dict[str, list[str]] = {}
    for folder in sorted((DATA / "tasks").glob("*")):
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
        files = sorted((DATA / "novels" / name).glob("*.txt"))
        if files:
            sets[f"novels/{name}"] = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")]
    if (DATA / "wikitext2").is_dir():
        sets["wikitext2"] = (DATA / "wikitext2" / "valid.txt").read_text(encoding="utf-8").split("\n")
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
def data_folder() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no data in {DATA}; set GPT1_DATA")
    return DATA


@pytest.fixture(scope="session")
def texts(data_folder) -> dict[str, list[str]]:
    return text_sets()


@pytest.fixture(scope="session")
def oracle(data_folder, oracle_class):
    return oracle_class.from_openai(data_folder / "openai_bpe")


@pytest.fixture(scope="session")
def openai_tokenizer(data_folder) -> GPT1Tokenizer:
    folder = data_folder / "openai_bpe"
    return GPT1Tokenizer.from_openai(folder / "encoder_bpe_40000.json", folder / "vocab_40000.bpe")


@pytest.fixture(scope="session")
def tokenizer() -> GPT1Tokenizer:
    return GPT1Tokenizer()
