"""The n-gram model that a language model's perplexity is held against: a distribution, as counted by hand."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def kneser_ney(load_module):
    return load_module("benchmarks/perplexity.py").KneserNey


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
