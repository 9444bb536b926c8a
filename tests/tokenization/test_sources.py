"""Where a tokenizer comes from: its own files or an error, never another vocabulary in their place."""

import json
import shutil

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, OpenAIGPTTokenizer

from modeling_gpt1 import GPT1Config
from tokenization import GPT1Tokenizer
from tokenization.tokenization_gpt1 import SPECIAL_TOKENS


pytestmark = pytest.mark.usefixtures("offline")


TEXT = "Don't! The in-laws' café, Mr. O'Brien; \n it’s theirs..."
LETTERS = "abcdefghijklmnopqrstuvwxyz.,'!;\n"
SYMBOLS = ["<unk>", *LETTERS, *(f"{c}</w>" for c in LETTERS), "th", "the</w>", "in</w>", "n'", "n't</w>"]
VOCABULARY = {symbol: index for index, symbol in enumerate(SYMBOLS)}
MERGES = ["t h", "th e</w>", "i n</w>", "n '", "n' t</w>"]


@pytest.fixture
def files(tmp_path):
    """A folder with the two files that openai-gpt's checkpoints commonly have."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    return directory


@pytest.fixture
def expected(files):
    """The 2018 encoder over them, built by hand."""
    return GPT1Tokenizer.from_vocabulary(VOCABULARY, [tuple(merge.split(" ")) for merge in MERGES])


def peer(directory, **kwargs):
    """Saves transformers' own tokenizer of the vocabulary, which splits words otherwise."""
    tokenizer = OpenAIGPTTokenizer(vocab=VOCABULARY, merges=[tuple(merge.split(" ")) for merge in MERGES], **kwargs)
    tokenizer.save_pretrained(directory)
    assert tokenizer.tokenize("don't") != ["d", "o</w>", "n't</w>"]
    return tokenizer


def same(tokenizer, expected):
    assert tokenizer(TEXT, "in") == expected(TEXT, "in") and len(tokenizer) == len(expected)
    assert tokenizer.get_vocab() == expected.get_vocab()
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == expected.decode(expected(TEXT)["input_ids"])
    assert not tokenizer.task_format and tokenizer.tokenize("don't") == ["d", "o</w>", "n't</w>"]
    assert [tokenizer.convert_tokens_to_ids(t) - len(SYMBOLS) for t in SPECIAL_TOKENS.values()] == [0, 1, 2, 3]


def test_two_files_load_by_every_way(files, expected):
    same(GPT1Tokenizer.from_pretrained(files), expected)
    same(GPT1Tokenizer(vocab_file=files / "vocab.json", merges_file=str(files / "merges.txt")), expected)
    same(GPT1Tokenizer.from_openai(files / "vocab.json", files / "merges.txt"), expected)
    GPT1Config().save_pretrained(files)
    same(AutoTokenizer.from_pretrained(files), expected)
    assert GPT1Tokenizer.from_pretrained(files, task_format=True).tokenize("in", add_special_tokens=True) == [
        "_start_",
        "in</w>",
        "_classify_",
    ]


def test_openai_gpts_own_file_gives_the_words_of_2018(tmp_path, expected):
    peer(tmp_path / "peer")
    same(GPT1Tokenizer.from_pretrained(tmp_path / "peer"), expected)
    same(GPT1Tokenizer(tokenizer_file=tmp_path / "peer" / "tokenizer.json"), expected)
    GPT1Tokenizer.from_pretrained(tmp_path / "peer").save_pretrained(tmp_path / "again")
    same(GPT1Tokenizer.from_pretrained(tmp_path / "again"), expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "again")(TEXT) == expected(TEXT)


def test_tokens_that_were_added_to_openai_gpts_keep_their_numbers(tmp_path, files):
    tokenizer = peer(tmp_path / "peer", bos_token="<bos>", pad_token="<PAD>")
    tokenizer.add_tokens(["<speaker1>"])
    tokenizer.save_pretrained(tmp_path / "peer")
    loaded = GPT1Tokenizer.from_pretrained(tmp_path / "peer")
    assert {loaded.get_vocab()[token] == number for token, number in tokenizer.get_vocab().items()} == {True}
    assert (loaded.bos_token, loaded.pad_token, loaded.cls_token) == ("<bos>", "<PAD>", "_classify_")
    # as transformers 2 to 4 wrote them
    added = {"<bos>": len(SYMBOLS), "<speaker1>": len(SYMBOLS) + 1}
    (files / "added_tokens.json").write_text(json.dumps(added))
    (files / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<bos>"}))
    loaded = GPT1Tokenizer.from_pretrained(files)
    assert {token: loaded.convert_tokens_to_ids(token) for token in added} == added
    assert loaded.bos_token == "<bos>" and loaded.convert_tokens_to_ids("_delimiter_") == len(SYMBOLS) + 2
    (files / "added_tokens.json").write_text(json.dumps({"<bos>": len(SYMBOLS) + 9}))
    with pytest.raises(ValueError, match=f"'<bos>' should be number {len(SYMBOLS) + 9} of the vocabulary, not"):
        GPT1Tokenizer.from_pretrained(files)


@pytest.mark.parametrize("removed", [("vocab.json", "merges.txt"), ("vocab.json",), ("merges.txt",)])
def test_a_folder_without_a_vocabulary_is_refused(files, removed):
    GPT1Config().save_pretrained(files)
    for name in removed:
        (files / name).unlink()
    for load in (GPT1Tokenizer.from_pretrained, AutoTokenizer.from_pretrained):
        with pytest.raises(OSError, match=f"{files} has no tokenizer: neither tokenizer.json nor vocab.json and"):
            load(files)


def test_a_hub_id_that_is_not_there_is_refused():
    with pytest.raises(OSError):
        GPT1Tokenizer.from_pretrained("nobody/has-this")


def test_half_a_source_and_two_sources_are_refused(files, tmp_path):
    vocab, merges = files / "vocab.json", files / "merges.txt"
    peer(tmp_path / "peer")
    for half in ({"vocab_file": vocab}, {"merges_file": merges}):
        with pytest.raises(ValueError, match="vocab_file and merges_file go together"):
            GPT1Tokenizer(**half)
    with pytest.raises(ValueError, match="give one"):
        GPT1Tokenizer(tokenizer_file=tmp_path / "peer" / "tokenizer.json", vocab_file=vocab, merges_file=merges)


def test_damaged_files_are_one_line(files, tmp_path):
    shutil.copytree(files, tmp_path / "whole")
    for content, message in (
        ("{", "tokenizer.json is no tokenizer: "),
        (Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")).to_str(), "is no byte-pair tokenizer"),
    ):
        (files / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError) as error:
            GPT1Tokenizer(tokenizer_file=files / "tokenizer.json")
        assert message in str(error.value) and "\n" not in str(error.value)
    (files / "tokenizer.json").unlink()
    (files / "vocab.json").write_text('["a"]')
    with pytest.raises(ValueError, match="vocab.json: not a vocabulary"):
        GPT1Tokenizer.from_pretrained(files)
