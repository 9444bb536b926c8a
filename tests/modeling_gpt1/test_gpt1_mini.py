"""The packaged checkpoint: what is stored, how it loads, and that it predicts held-out books as its card says."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from modeling_gpt1 import (
    GPT1_MINI,
    NAMED_CONFIGURATIONS,
    GPT1ForCausalLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)
from modeling_gpt1.training.books import BookWindows, encode_books
from modeling_gpt1.training.finetune import TaskArguments
from tokenization import GPT1Tokenizer


MINI = Path(GPT1_MINI)


def test_it_is_small_and_stored_in_bfloat16():
    assert sum(path.stat().st_size for path in MINI.glob("*.safetensors")) <= 60e6
    with safe_open(MINI / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    assert not list(MINI.glob("*.py")), "its code is this package's"


def test_its_books_are_listed():
    with (MINI / "books.tsv").open(encoding="utf-8", newline="") as file:
        books = list(csv.DictReader(file, delimiter="\t"))
    assert len(books) == json.loads((MINI / "all_results.json").read_text(encoding="utf-8"))["train_books"]
    assert all(book["author"] and book["title"] and book["source"] for book in books)
    assert all(1300 < int(book["year"]) < 1930 for book in books if book["year"])


def test_it_loads_in_float32_under_every_head():
    model = GPT1ForCausalLM.from_pretrained(GPT1_MINI)
    assert model.dtype == torch.float32 and model.config.use_cache
    assert {name: getattr(model.config, name) for name in NAMED_CONFIGURATIONS["mini"]} == NAMED_CONFIGURATIONS["mini"]
    assert type(AutoModelForCausalLM.from_pretrained(GPT1_MINI)) is GPT1ForCausalLM
    for head in (GPT1ForSequenceClassification, GPT1ForSimilarity, GPT1ForMultipleChoice):
        tuned, info = head.from_pretrained(GPT1_MINI, output_loading_info=True)
        assert {name.partition(".")[0] for name in info["missing_keys"]} == {"score"}
        assert torch.equal(tuned.model.embed_tokens.weight, model.model.embed_tokens.weight)


def test_its_tokenizer_is_the_packaged_one():
    texts = ["It was the best of times, it was the worst of times.", "Don't!", "Ünïcode — 3.14"]
    packaged = GPT1Tokenizer()
    for tokenizer in (GPT1Tokenizer.from_pretrained(GPT1_MINI), AutoTokenizer.from_pretrained(GPT1_MINI)):
        assert tokenizer(texts).input_ids == packaged(texts).input_ids
        assert tokenizer.get_vocab() == packaged.get_vocab()
        assert tokenizer.model_max_length == 512


def test_it_is_where_fine_tuning_starts():
    assert TaskArguments("sst2").model == GPT1_MINI


def test_it_continues_a_prompt_in_words():
    generate = pipeline("text-generation", model=GPT1_MINI)
    text = generate("It was", max_new_tokens=30, do_sample=False)[0]["generated_text"]
    assert text.startswith("It was ") and "<unk>" not in text
    assert len(text.split()) > 15


def test_perplexity_of_held_out_books(data_dir, tmp_path):
    reported = json.loads((MINI / "all_results.json").read_text(encoding="utf-8"))["eval_loss"]
    books = encode_books([data_dir / "novels" / "valid"], GPT1Tokenizer(), cache_dir=str(tmp_path))
    windows = BookWindows(books, 512)
    some = torch.linspace(0, len(windows) - 2, 32).long().tolist()
    ids = torch.stack([torch.as_tensor(windows[i]["input_ids"]) for i in some if len(windows[i]["input_ids"]) == 512])
    model = GPT1ForCausalLM.from_pretrained(GPT1_MINI).eval()
    with torch.inference_mode():
        loss = model(ids, labels=ids, skip_logits=True).loss.item()
    assert loss == pytest.approx(reported, abs=0.15)  # 16,000 of 600,000 tokens
