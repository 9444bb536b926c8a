"""Perplexity as measured: each token once, and the n-gram model beside it a distribution, as counted by hand."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM


BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def perplexity():
    sys.path.insert(0, str(BENCHMARKS))
    specification = importlib.util.spec_from_file_location("perplexity", BENCHMARKS / "perplexity.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def kneser_ney(perplexity):
    return perplexity.KneserNey


@pytest.mark.parametrize("tokens", [2, 15, 16, 17, 24, 25, 100])
def test_each_token_is_predicted_once_with_at_least_half_a_window_before_it(perplexity, tokens):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPT1Config(**sizes, max_position_embeddings=16, initializer_range=0.5)
    model = GPT1ForCausalLM(config).double().eval()
    ids = torch.randint(50, (tokens,))
    losses = perplexity.model_loss(model, ids.numpy(), batch_size=3)
    assert losses.shape == (tokens - 1,)
    starts = [*range(0, max(tokens - 16, 0), 8), max(tokens - 16, 0)]  # the last window ends with the text
    for token in range(1, tokens):
        start = next(start for start in starts if token < start + 16)
        assert start == 0 or token - start >= 8
        expected = -model(ids[None, start:token]).logits[0, -1].log_softmax(-1)[ids[token]]
        assert losses[token - 1] == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_sum_to_one(kneser_ney, order):
    random = np.random.default_rng(0)
    model = kneser_ney(random.integers(12, size=400) ** 2 % 12, vocab_size=12, order=order)
    for before in random.integers(12, size=(20, 6)):
        after = [np.exp(model.log_probabilities(np.append(before, token))[-1]) for token in range(12)]
        assert sum(after) == pytest.approx(1, abs=1e-12)


def test_a_seen_sequence_is_likelier_than_a_shuffled_one(kneser_ney):
    text = np.tile(np.arange(10), 50)
    model = kneser_ney(text, vocab_size=10)
    assert model.log_probabilities(text[:100])[5:].mean() > np.log(0.9)
    assert model.log_probabilities(np.random.default_rng(0).permutation(text)[:100]).mean() < np.log(0.2)


def test_bigrams_by_hand(kneser_ney):
    """In a b a b a c: estimates of discounts that are none, of n below 0 or from n on, are n / 2."""
    a, b, c = 0, 1, 2
    model = kneser_ney(np.asarray([a, b, a, b, a, c]), vocab_size=4, order=2)
    # Single tokens count the different ones before them: b before a, a before b, a before c; three ones, no estimate
    lower = (1 - 0.5) / 3 + (3 * 0.5 / 3) / 4
    # Pairs: one once, two twice, none more often. The discount of one is 1 - 2 x 1/5 x 2/1, and of two 2 - 0, so 1
    discount = {1: 0.2, 2: 1.0}
    left = (discount[2] + discount[1]) / 3  # after a: b twice, c once
    expected = {b: (2 - discount[2]) / 3 + left * lower, c: (1 - discount[1]) / 3 + left * lower}
    for token, probability in expected.items():
        assert np.exp(model.log_probabilities(np.asarray([a, token]))[-1]) == pytest.approx(probability)
