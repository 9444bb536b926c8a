"""GPT1Tokenizer as transformers' users meet it: special tokens, the tasks' format, saving, loading, bad files."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from modeling_gpt1 import GPT1Config
from tokenization import GPT1Tokenizer


START, DELIMITER, EXTRACT = "_start_", "_delimiter_", "_classify_"
LONG, SHORT = "word " * 600, "few words"


def tokens(tokenizer, *texts, **kwargs):
    return tokenizer.convert_ids_to_tokens(tokenizer(*texts, **kwargs).input_ids)


def test_the_packaged_vocabulary(tokenizer):
    assert len(tokenizer) == 40_338
    assert tokenizer.unk_token_id == 0
    assert [tokenizer.convert_tokens_to_ids(t) for t in (START, DELIMITER, EXTRACT, "<pad>")] == list(
        range(40_334, 40_338)
    )
    names = ["bos_token_id", "sep_token_id", "cls_token_id", "pad_token_id"]
    assert [getattr(tokenizer, name) for name in names] == list(range(40_334, 40_338))
    assert len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]) == 40_000
    ascii_characters = {chr(code).lower() for code in range(0x21, 0x7F)}
    assert ascii_characters | {c + "</w>" for c in ascii_characters} <= set(tokenizer.get_vocab())
    assert tokenizer.model_max_length == 512
    assert tokenizer.padding_side == "right"


def test_openais_vocabulary(openai_tokenizer):
    assert len(openai_tokenizer) == 40_482
    assert openai_tokenizer.bos_token_id == 40_478
    assert openai_tokenizer.tokenize("Don't!\nMr. O'Brien") == [
        "do</w>",
        "n't</w>",
        "!</w>",
        "\n</w>",
        "mr.</w>",
        "o'brien</w>",
    ]


def test_plain_texts_get_no_special_token(tokenizer):
    assert tokens(tokenizer, "A cat.", "A dog.") == ["a</w>", "cat</w>", ".</w>", "a</w>", "dog</w>", ".</w>"]
    assert list(tokenizer("x")) == ["input_ids", "attention_mask"]
    assert not tokenizer.task_format


def test_the_tasks_format():
    tokenizer = GPT1Tokenizer(task_format=True)
    assert tokens(tokenizer, "A cat.") == [START, "a</w>", "cat</w>", ".</w>", EXTRACT]
    assert tokens(tokenizer, "A cat", "a dog") == [START, "a</w>", "cat</w>", DELIMITER, "a</w>", "dog</w>", EXTRACT]
    batch = tokenizer(["a cat", "a"], padding=True)
    assert batch.input_ids[1][-1] == tokenizer.pad_token_id
    assert batch.attention_mask == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_the_tasks_format_has_the_special_tokens_of_now():
    tokenizer = GPT1Tokenizer(task_format=True)
    tokenizer.add_special_tokens({"sep_token": "[SEP]", "cls_token": "[CLS]"})
    assert tokens(tokenizer, "a", "b") == [START, "a</w>", "[SEP]", "b</w>", "[CLS]"]
    assert tokenizer("a").input_ids[-1] == tokenizer.cls_token_id


def test_the_tasks_format_of_a_file_has_the_special_tokens_of_now(tmp_path):
    GPT1Tokenizer(task_format=True).save_pretrained(tmp_path)
    loaded = GPT1Tokenizer.from_pretrained(tmp_path, cls_token="<x>")
    assert tokens(loaded, "a", "b") == [START, "a</w>", DELIMITER, "b</w>", "<x>"]
    with pytest.raises(ValueError, match="one of them is None"):
        GPT1Tokenizer.from_pretrained(tmp_path, bos_token=None)


def test_a_plain_pair_is_one_text_to_every_way_of_making_a_tokenizer(tmp_path):
    (tmp_path / "vocab.json").write_text('{"<unk>": 0, "a": 1, "a</w>": 2}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    sources = {"vocab_file": str(tmp_path / "vocab.json"), "merges_file": str(tmp_path / "merges.txt")}
    made = GPT1Tokenizer(**sources), GPT1Tokenizer.from_openai(*sources.values()), GPT1Tokenizer()
    for each in (*made, GPT1Tokenizer.from_pretrained(tmp_path)):
        assert each("a", "a", return_token_type_ids=True)["token_type_ids"] == [0, 0]


@pytest.mark.parametrize("pair", [("A", ""), ("", ""), ("\ud83d\ude00 a", "")])
def test_an_empty_second_text_is_one_in_a_batch_and_by_itself(tokenizer, pair):
    tasks = GPT1Tokenizer(task_format=True)
    first, second = pair
    (expected,) = tasks([first], [second]).input_ids
    assert expected[-2:] == [tasks.sep_token_id, tasks.cls_token_id]
    assert tasks(*pair).input_ids == tasks(*pair, return_offsets_mapping=True).input_ids == expected
    assert tasks(*pair, return_tensors="pt").input_ids.tolist() == [expected]
    assert tasks.encode(*pair) == expected and tasks.encode(first) == [*expected[:-2], expected[-1]]
    assert tokenizer(*pair).input_ids == tokenizer(first).input_ids


def test_tokenize_takes_what_it_takes_in_transformers(tokenizer):
    assert tokenizer.tokenize("a b") == tokenizer.tokenize(["a b", "c"]) == ["a</w>", "b</w>"]


@pytest.mark.parametrize(
    "strategy, texts, lengths",
    [
        (True, (LONG,), (3, 4, 7, 30, 512)),
        ("longest_first", (LONG,), (3, 4, 7, 30, 512)),
        ("only_first", (LONG,), (3, 4, 7, 30, 512)),
        (True, (LONG, LONG), (3, 4, 7, 30, 512)),
        ("longest_first", (LONG, LONG), (3, 4, 7, 30, 512)),
        # below 6 tokens the other text alone is too long, which is transformers' own error
        ("only_first", (LONG, SHORT), (7, 30, 512)),
        ("only_second", (SHORT, LONG), (7, 30, 512)),
    ],
)
def test_truncation_keeps_every_special_token(strategy, texts, lengths):
    tokenizer = GPT1Tokenizer(task_format=True)
    for length in lengths:
        out = tokens(tokenizer, *texts, truncation=strategy, max_length=length)
        assert len(out) == length and (out[0], out[-1]) == (START, EXTRACT)
        assert [out.count(token) for token in (START, DELIMITER, EXTRACT)] == [1, len(texts) - 1, 1]


def test_the_task_format_is_saved(tmp_path):
    GPT1Tokenizer(task_format=True).save_pretrained(tmp_path / "tasks")
    for loaded in (
        AutoTokenizer.from_pretrained(tmp_path / "tasks"),
        GPT1Tokenizer.from_pretrained(tmp_path / "tasks"),
    ):
        assert tokens(loaded, "a", "b") == [START, "a</w>", DELIMITER, "b</w>", EXTRACT]
    plain = GPT1Tokenizer.from_pretrained(tmp_path / "tasks", task_format=False)
    plain.save_pretrained(tmp_path / "plain")
    assert tokens(plain, "a") == tokens(AutoTokenizer.from_pretrained(tmp_path / "plain"), "a") == ["a</w>"]
    again = GPT1Tokenizer.from_pretrained(tmp_path / "plain", task_format=True)
    again.save_pretrained(tmp_path / "again")
    assert tokens(AutoTokenizer.from_pretrained(tmp_path / "again"), "a") == [START, "a</w>", EXTRACT]


@pytest.mark.parametrize("task_format", [False, True])
def test_a_vocabulary_that_transformers_learns_has_the_special_tokens_last(tmp_path, task_format):
    texts = ["The cat sat on the mat, and the dog lay by the door."] * 30
    tokenizer = GPT1Tokenizer(task_format=task_format)
    learned = tokenizer.train_new_from_iterator(texts, 100, new_special_tokens=["<user>"])
    config = GPT1Config(vocab_size=len(learned))
    for name in ("unk", "bos", "sep", "cls", "eos", "pad"):
        assert getattr(learned, f"{name}_token_id") == getattr(config, f"{name}_token_id"), name
    assert sorted(learned.get_vocab().values()) == list(range(len(learned)))
    words = learned.convert_tokens_to_ids(["the</w>", "cat</w>", "<user>", "dog</w>"])
    assert learned.unk_token_id not in words
    start, delimiter, extract = learned.bos_token_id, learned.sep_token_id, learned.cls_token_id
    expected = [start, *words[:2], delimiter, *words[2:], extract] if task_format else words
    assert learned.decode(learned(texts[0], add_special_tokens=False)["input_ids"]) == f" {texts[0].lower()}"
    learned.save_pretrained(tmp_path)
    for each in (learned, GPT1Tokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert each("The cat", "<user> dog")["input_ids"] == expected


def test_what_was_loaded_is_learned_anew(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = GPT1Tokenizer.from_pretrained(tmp_path)
    learned = loaded.train_new_from_iterator(["The cat sat on the mat."] * 9, 60)
    assert learned.cls_token_id == len(learned) - 2 and learned.pad_token_id == len(learned) - 1


@pytest.mark.parametrize("pad_token", [EXTRACT, None])
def test_a_special_token_of_two_names_is_learned_once(pad_token):
    tokenizer = GPT1Tokenizer(task_format=True, pad_token=pad_token)
    learned = tokenizer.train_new_from_iterator(["The cat sat on the mat."] * 9, 60)
    assert learned.pad_token == pad_token and "null" not in learned.get_vocab()
    assert sorted(learned.get_vocab().values()) == list(range(len(learned)))
    assert max(learned("the cat").input_ids) < len(learned)


def test_what_is_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "auto_map" not in config
    merges = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert all(isinstance(merge, str) for merge in merges), "older versions of tokenizers read no other form"
    assert GPT1Tokenizer.from_pretrained(tmp_path).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_special_tokens_in_a_text(tokenizer):
    assert tokens(tokenizer, "a _classify_ b") == ["a</w>", "_classify_", "b</w>"]
    assert tokenizer.cls_token_id not in tokenizer("a _classify_ b", split_special_tokens=True).input_ids


CLEAN = """
import json, sys
sys.modules["spacy"] = sys.modules["ftfy"] = sys.modules["tokenization"] = None
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.load(open(sys.argv[2], encoding="utf-8"))
json.dump([type(tokenizer).__name__, tokenizer(texts)["input_ids"]], open(sys.argv[3], "w"))
"""


def test_a_process_with_only_transformers_gives_the_same_ids(texts, tokenizer, tmp_path):
    sample = (texts["mrpc"][::20] + texts["sts"][::20] + texts["novels/valid"][::60])[:2000]
    assert len(sample) == 2000
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "texts.json").write_text(json.dumps(sample), encoding="utf-8")
    command = [sys.executable, "-c", CLEAN, tmp_path / "saved", tmp_path / "texts.json", tmp_path / "ids.json"]
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, timeout=600)
    name, ids = json.loads((tmp_path / "ids.json").read_text(encoding="utf-8"))
    assert name in ("TokenizersBackend", "PreTrainedTokenizerFast")
    assert ids == tokenizer(sample).input_ids


def test_import_needs_neither_spacy_nor_ftfy():
    code = "import sys; sys.modules['spacy'] = sys.modules['ftfy'] = None; import tokenization as t; t.GPT1Tokenizer()"
    code += "; from tokenization.english import normalizer; normalizer()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=600)


class SomeConfig(PreTrainedConfig):
    model_type = "gpt1-tokenizer-test"


def test_auto_tokenizer_beside_a_registered_configuration(tmp_path):
    AutoConfig.register("gpt1-tokenizer-test", SomeConfig, exist_ok=True)
    AutoTokenizer.register(SomeConfig, fast_tokenizer_class=GPT1Tokenizer, exist_ok=True)
    SomeConfig().save_pretrained(tmp_path)
    GPT1Tokenizer(task_format=True).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokens(loaded, "It's a cat.") == [START, "it</w>", "'s</w>", "a</w>", "cat</w>", ".</w>", EXTRACT]


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ('{"a": 0, "a</w>": 1}', "#version: 0.2\n", "no <unk>"),
        ('{"<unk>": 0, "a": 1}', "#version: 0.2\na b</w>\n", "is not in the vocabulary"),
        ('{"<unk>": 0, "a": 1}', "a b c\n", "line 1"),
        ("[1, 2]", "", "not a vocabulary"),
        ("{", "", "not a JSON file"),
    ],
)
def test_bad_vocabularies_get_one_clear_error(vocab, merges, message, tmp_path):
    (tmp_path / "vocab.json").write_text(vocab, encoding="utf-8")
    (tmp_path / "merges.bpe").write_text(merges, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        GPT1Tokenizer.from_openai(tmp_path / "vocab.json", tmp_path / "merges.bpe")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        GPT1Tokenizer.from_openai(tmp_path / "nowhere.json", tmp_path / "nowhere.bpe")
