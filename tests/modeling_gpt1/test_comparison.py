"""Pairs of texts made of a window's tokens: what is known of them, what is learned from it, and what is left of it."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, GPT1Model
from modeling_gpt1.cli import main
from modeling_gpt1.training.books import BookWindows, encode_books
from modeling_gpt1.training.comparison import Comparison, PairMaker, rarity
from tokenization import GPT1Tokenizer, train_bpe


WORDS = 40
START, DELIMITER, EXTRACT, PAD = range(WORDS, WORDS + 4)
SHAPE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture(scope="module")
def config() -> GPT1Config:
    special = {"bos_token_id": START, "sep_token_id": DELIMITER, "cls_token_id": EXTRACT, "pad_token_id": PAD}
    return GPT1Config(vocab_size=WORDS + 4, max_position_embeddings=64, initializer_range=0.1, **SHAPE, **special)


@pytest.fixture(scope="module")
def make(config):
    return PairMaker(config, 64, np.linspace(1, 5, WORDS + 4))


def pairs_of(make: PairMaker, count: int, seed: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    windows = (random.integers(WORDS, size=96) for _ in range(count // 8))
    made = [make(8, window, random) for window in windows]
    return {name: torch.from_numpy(np.concatenate([each[name] for each in made])) for name in made[0]}


def test_what_is_known_of_a_pair_is_so(make):
    pairs = pairs_of(make, 400, seed=0)
    lengths = set()
    for ids, found, overlap in zip(*(pairs[name].tolist() for name in pairs), strict=True):
        delimiter, extract = ids.index(DELIMITER), ids.index(EXTRACT)
        first, second = ids[1:delimiter], ids[delimiter + 1 : extract]
        assert ids[0] == START and set(ids[extract + 1 :]) <= {PAD} and max(first + second) < WORDS
        assert found == [-100] * (delimiter + 1) + [int(token in first) for token in second] + [-100] * (64 - extract)
        shared = [token for token in first if token in second] + [token for token in second if token in first]
        known = sum(make.rarity[token] for token in shared) / sum(make.rarity[token] for token in first + second)
        assert overlap == pytest.approx(known, abs=1e-6)
        lengths |= {len(first), len(second)}
    assert lengths == set(range(4, 31))
    assert np.histogram(pairs["pair_overlap"], bins=5, range=(0, 1))[0].min() > 20


@pytest.mark.parametrize("length", (1, 2, 7, 59))
def test_a_short_window_makes_short_pairs(make, length):
    random = np.random.default_rng(0)
    ids = make(16, random.integers(WORDS, size=length), random)["pair_ids"]
    assert ((ids == EXTRACT).argmax(1) <= 2 * max(length // 2, 1) + 2).all() and (ids < WORDS).any(1).all()


def test_the_loss_is_that_of_each_pair_by_itself(config, make, agree):
    torch.manual_seed(0)
    model, comparison = GPT1Model(config).double().eval(), Comparison(config.hidden_size).double()
    pairs = pairs_of(make, 16, seed=1)
    right, of_tokens, of_pairs = [], [], []
    for ids, found, overlap in zip(*pairs.values(), strict=True):
        length = int((ids != PAD).sum())
        states = model(ids[None, :length], output_hidden_states=True)
        logits = comparison.found(states.hidden_states[2])[0, :, 0]
        for logit, answer in zip(logits, found.tolist(), strict=False):
            if answer >= 0:
                of_tokens.append(F.softplus(-logit if answer else logit))
                right.append(answer)
        of_pairs.append((comparison.overlap(states.last_hidden_state[0, -1]).squeeze() - overlap) ** 2)
    expected = torch.stack(of_tokens).mean() + 10 * torch.stack(of_pairs).mean()
    assert 0 < sum(right) < len(right)
    agree("comparison of pairs", comparison(model, **pairs), expected, 1e-6)


def test_it_is_a_part_of_the_model_while_attached(config, make):
    torch.manual_seed(0)
    model, comparison = GPT1ForCausalLM(config).train(), Comparison(config.hidden_size)
    before, ids, pairs = set(model.state_dict()), torch.randint(WORDS, (2, 24)), pairs_of(make, 16, seed=2)
    comparison.attach(model)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        torch.manual_seed(1)
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        loss = wrapped(input_ids=ids, labels=ids, num_items_in_batch=4 * ids.numel(), **pairs).loss
        loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in comparison.parameters())
    torch.manual_seed(1)
    alone = model(input_ids=ids, labels=ids, num_items_in_batch=4 * ids.numel()).loss
    torch.testing.assert_close(loss, alone + comparison.loss / 4)
    comparison.detach(model)
    assert set(model.state_dict()) == before and not model._forward_hooks and not model._forward_pre_hooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    random = np.random.default_rng(0)
    words = ["the", "old", "house", "stood", "by", "a", "river", "and", "nobody", "knew", "who", "built", "it"]
    (folder / "book.txt").write_text("\n".join(" ".join(random.choice(words, size=9)) for _ in range(60)))
    train_bpe([folder / "book.txt"], num_merges=30, show_progress=False).save_pretrained(folder / "tokenizer")
    GPT1Config(max_position_embeddings=32, **SHAPE).save_pretrained(folder)
    return folder


def test_windows_have_their_pairs_again_and_none_where_they_are_measured(folder, config):
    tokenizer = GPT1Tokenizer.from_pretrained(folder / "tokenizer")
    books = encode_books([folder / "book.txt"], tokenizer, cache_dir=str(folder / "cache"))
    counts = np.bincount(np.concatenate(books["input_ids"]), minlength=200) + 1
    np.testing.assert_allclose(rarity(books, 200), -np.log(counts / counts.sum()))
    made = PairMaker(config, 32, rarity(books, 200))
    windows, again = (BookWindows(books, 32, seed=3, make_pairs=partial(made, 5)) for _ in range(2))
    for index in range(len(windows)):
        for name, array in windows[index].items():
            assert np.array_equal(array, again[index][name])
    assert windows[0]["pair_ids"].shape == (5, 32)
    assert not np.array_equal(windows[0]["pair_ids"], windows[1]["pair_ids"])
    assert BookWindows(books, 32, make_pairs=partial(made, 5))[0].keys() == {"input_ids"}


def test_pretraining_with_pairs_goes_on_where_it_stopped_and_leaves_a_language_model(folder, tmp_path):
    flags = {
        "corpus": folder / "book.txt",
        "validation_corpus": folder / "book.txt",
        "tokenizer": folder / "tokenizer",
        "config": folder / "config.json",
        "cache_dir": folder / "cache",
        "pairs": 3,
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "save_steps": 2,
        "eval_strategy": "no",
        "warmup_steps": 1,
        "logging_steps": 1,
        "report_to": "none",
    }
    words = ["pretrain", *(text for name, value in flags.items() for text in (f"--{name}", str(value)))]
    assert main([*words, "--output_dir", str(tmp_path / "whole")]) == 0
    (tmp_path / "resumed").mkdir()
    (tmp_path / "whole/checkpoint-2").rename(tmp_path / "resumed/checkpoint-2")
    assert main([*words, "--output_dir", str(tmp_path / "resumed"), "--resume_from_checkpoint", "True"]) == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    _, report = GPT1ForCausalLM.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]


def test_pairs_are_for_the_next_token_objective(folder, tmp_path, capsys):
    words = ["--corpus", str(folder / "book.txt"), "--objective", "mlm", "--output_dir", str(tmp_path / "model")]
    assert main(["pretrain", *words, "--pairs", "2"]) != 0
    assert "--pairs must be at least 0, and 0 for --objective mlm, got 2" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
