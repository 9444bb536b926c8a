"""Encoding and padding a batch gives, with every option, what transformers' own `PreTrainedTokenizerFast` gives."""

import copy
import itertools
import pickle
import random

import numpy as np
import pytest
from accelerate.utils.operations import concatenate, slice_tensors
from transformers import BatchEncoding, PreTrainedTokenizerFast

from tokenization import GPT1Tokenizer


WORDS = [
    "The",
    "cat's",
    "pyjamas",
    "didn't",
    "“fit,”",
    "he",
    "said;",
    "...",
    "Mr.",
    "Ølsen",
    "ﬁ",
    "_start_",
    "½",
    "\n",
]
FORMATS = {
    "padding": [False, "longest", "max_length"],
    "truncation": [False, True],
    "max_length": [None, 24],
    "pad_to_multiple_of": [None, 8],
    "padding_side": [None, "left", "right"],
}
RETURNS = {
    "return_token_type_ids": True,
    "return_special_tokens_mask": True,
    "return_length": True,
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tasks"])
def both(request) -> tuple[GPT1Tokenizer, PreTrainedTokenizerFast]:
    """Ours and transformers' around the same backend."""
    ours = GPT1Tokenizer(task_format=request.param)
    names = ("unk_token", "bos_token", "sep_token", "cls_token", "pad_token", "model_max_length", "model_input_names")
    options = {name: getattr(ours, name) for name in names}
    return ours, PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(ours.backend_tokenizer), **options)


def texts_of(seed: int, number: int = 5) -> list[str]:
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=choose.randint(0, 18))) for _ in range(number)]


def outcome(tokenizer, *texts, **options):
    """What a call gives: the batch, or the error that it raises."""
    try:
        return tokenizer(*texts, **options)
    except Exception as error:
        return type(error), str(error)


def described(batch) -> dict:
    """All of a batch: its lists or arrays, and its encodings."""
    if not isinstance(batch, BatchEncoding):
        return {"error": batch}
    fields = {name: [np.asarray(row).tolist() for row in value] for name, value in batch.items()}
    types = {name: (type(value), getattr(value, "dtype", None)) for name, value in batch.items()}
    encodings = [
        (e.ids, e.tokens, e.type_ids, e.attention_mask, e.special_tokens_mask, e.offsets, e.word_ids, e.sequence_ids)
        for encoding in batch.encodings
        for e in (encoding, *encoding.overflowing)
    ]
    return {**fields, "types": types, "encodings": encodings, "n_sequences": batch.n_sequences}


@pytest.mark.parametrize("values", list(itertools.product(*FORMATS.values())), ids=str)
def test_every_format(values, both):
    ours, transformers = both
    options = dict(zip(FORMATS, values, strict=True))
    for seed, (pair, more, tensors) in enumerate(itertools.product([False, True], range(3), [None, "pt", "np"])):
        stride = [{}, {"return_offsets_mapping": True}, {"return_overflowing_tokens": True, "stride": 2}][more]
        texts = [texts_of(seed), texts_of(100 + seed)][: 1 + pair]
        arguments = {**options, **stride, **RETURNS, "return_tensors": tensors, "verbose": False}
        ours_gave, theirs = outcome(ours, *texts, **arguments), outcome(transformers, *texts, **arguments)
        assert described(ours_gave) == described(theirs), arguments


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ((["a b", "c"], ["d", "e f g"]), {"padding": True, "truncation": "only_second", "max_length": 6}),
        (([("a b", "c d"), ("e", "f")],), {"padding": True}),
        (([["a", "b's"], ["c"]],), {"padding": True, "is_split_into_words": True}),
        ((["a", "b"],), {"padding": True, "is_split_into_words": True}),
        (("a b",), {"padding": "max_length", "max_length": 8}),
        (("a b", "c"), {"padding": "max_length", "max_length": 8, "return_tensors": "pt"}),
        ((("a b", "c"),), {"padding": True, "add_special_tokens": False}),
        ((["", " "],), {"padding": True, "return_tensors": "pt"}),
        ((["a", "b c"],), {"padding": True, "return_attention_mask": False}),
        ((["a _start_ b", "c"],), {"padding": True, "split_special_tokens": True}),
        ((["a", "b c"],), {"padding": True, "padding_side": "up"}),
        ((["a", "b c"],), {"return_length": True}),
        (((),), {}),
        ((["a", "b"], "c"), {}),
        ((["a", "b c"], ["d"]), {"padding": True}),
        (([],), {"padding": True}),
        (([3],), {"padding": True}),
    ],
)
def test_other_calls(texts, options, both):
    ours, transformers = (outcome(tokenizer, *texts, **options) for tokenizer in both)
    assert described(ours) == described(transformers)


def test_the_sides_of_the_tokenizer(both):
    for tokenizer in both:
        tokenizer.padding_side = tokenizer.truncation_side = "left"
    options = {"padding": True, "truncation": True, "max_length": 9, "return_offsets_mapping": True, **RETURNS}
    ours, transformers = (tokenizer(texts_of(5), **options) for tokenizer in both)
    for tokenizer in both:
        tokenizer.padding_side = tokenizer.truncation_side = "right"
    assert described(ours) == described(transformers)


def test_positions_in_a_padded_batch(both):
    texts = ["The cat's pyjamas", "one", "two words"]
    ours, transformers = (tokenizer(texts, padding=True) for tokenizer in both)
    for index, text in enumerate(texts):
        assert ours.word_ids(index) == transformers.word_ids(index)
        assert ours.tokens(index) == transformers.tokens(index)
        assert ours[index].ids == transformers[index].ids == ours.input_ids[index]
        for at in range(len(text)):
            assert ours.char_to_token(index, at) == transformers.char_to_token(index, at)


def test_encodings_are_of_the_texts_of_the_call(tokenizer):
    texts = ["a b", "c"]
    pairs = ["d", "e f"]
    batch = tokenizer(texts, pairs)
    texts[0] = pairs[0] = "entirely different words"
    assert batch.tokens(0) == ["a</w>", "b</w>", "d</w>"] == tokenizer.convert_ids_to_tokens(batch.input_ids[0])


def test_a_batch_may_be_made_of_anothers_items(tokenizer):
    """As `accelerate` makes those of its processes."""
    batch = tokenizer(["a b c", "d e f"], padding=True, return_tensors="pt")
    first = slice_tensors(batch, slice(0, 1))
    assert first["input_ids"].tolist() == batch.input_ids[:1].tolist() and not first.is_fast
    assert concatenate([batch, batch])["input_ids"].shape == (4, 3)
    assert (batch | {"labels": [0, 1]})["labels"] == [0, 1]


def test_copies_are_whole(tokenizer):
    expected = described(tokenizer(["a b c", "d"], padding=True))
    for duplicate in (copy.deepcopy, copy.copy, lambda batch: pickle.loads(pickle.dumps(batch)), BatchEncoding.copy):
        made = duplicate(tokenizer(["a b c", "d"], padding=True))
        assert described(made) == expected
    assert type(pickle.loads(pickle.dumps(tokenizer(["a", "b"], padding=True)))) is BatchEncoding
