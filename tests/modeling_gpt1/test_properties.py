"""Whatever the text, the padding and the mask: what comes out is right, or one line says what cannot be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_gpt1 import (
    GPT1Config,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)
from tokenization import GPT1Tokenizer


few = settings(max_examples=30, deadline=None, derandomize=True, database=None)

ANY_TEXT = st.text(
    st.characters(codec=None, categories=("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Cs", "Co")), max_size=80
)
LONG_TEXT = st.builds(lambda text, times: text * times, ANY_TEXT, st.integers(0, 25))


@pytest.fixture(scope="module")
def tokenizer():
    return GPT1Tokenizer(task_format=True)


def drawn(head, **config):
    """A tiny model whose parameters are all drawn, without dropout."""
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    model = head(GPT1Config(num_labels=3, **shape, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture(scope="module", params=[GPT1ForCausalLM, GPT1ForSequenceClassification])
def model(request):
    return drawn(request.param, vocab_size=100, max_position_embeddings=64)


@pytest.fixture(scope="module", params=[GPT1ForEntailment, GPT1ForSimilarity, GPT1ForMultipleChoice])
def pair_model(request, tokenizer):
    return drawn(request.param, vocab_size=len(tokenizer), max_position_embeddings=128)


@pytest.fixture(scope="module")
def language_model(tokenizer):
    return drawn(GPT1ForCausalLM, vocab_size=len(tokenizer), max_position_embeddings=128)


@few
@given(texts=st.lists(LONG_TEXT, min_size=1, max_size=4), data=st.data())
def test_any_text_becomes_a_batch(tokenizer, texts, data):
    max_length = data.draw(st.integers(4, 600))
    side, padding = (
        data.draw(st.sampled_from(["left", "right"])),
        data.draw(st.sampled_from(["longest", "max_length"])),
    )
    batch = tokenizer(
        texts, truncation=True, max_length=max_length, padding=padding, padding_side=side, split_special_tokens=True
    )
    for text, ids, mask in zip(texts, batch["input_ids"], batch["attention_mask"], strict=True):
        alone = tokenizer(text, split_special_tokens=True)["input_ids"]
        real = [token for token, kept in zip(ids, mask, strict=True) if kept]
        assert real == (alone if len(alone) <= max_length else alone[: max_length - 1] + alone[-1:])
        assert real[0] == tokenizer.bos_token_id and real[-1] == tokenizer.cls_token_id
        assert mask == sorted(mask, reverse=side == "right") and max(ids) < len(tokenizer)
        assert isinstance(tokenizer.decode(ids), str)
    assert len({len(ids) for ids in batch["input_ids"]}) == 1


@st.composite
def masked_rows(draw):
    """Ids, and a mask with padding and holes anywhere, of at least one real token per row."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    ids = draw(st.lists(st.lists(st.integers(0, 95), min_size=length, max_size=length), min_size=rows, max_size=rows))
    mask = draw(st.lists(st.lists(st.integers(0, 1), min_size=length, max_size=length), min_size=rows, max_size=rows))
    for row in mask:
        row[draw(st.integers(0, length - 1))] = 1
    return torch.tensor(ids), torch.tensor(mask)


@few
@given(rows=masked_rows(), other=st.integers(0, 95))
def test_any_mask_gives_what_the_real_tokens_alone_give(model, rows, other):
    """What a mask leaves out changes nothing, and what it leaves is read as if it stood alone."""
    ids, mask = rows
    with torch.inference_mode():
        logits = model(ids, attention_mask=mask).logits
        changed = model(torch.where(mask == 1, ids, other), attention_mask=mask).logits
        for row in range(len(ids)):
            real = mask[row] == 1
            alone = model(ids[row : row + 1, real]).logits[0]
            for padded in (logits[row], changed[row]):
                padded = padded if padded.shape == alone.shape and padded.dim() == 1 else padded[real]
                torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)
    assert logits.isfinite().all()


@few
@given(rows=masked_rows(), data=st.data())
def test_any_label_gives_its_loss_or_an_error(model, rows, data):
    ids, mask = rows
    shape, most = ((len(ids),), 2) if isinstance(model, GPT1ForSequenceClassification) else (ids.shape, 99)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, most), min_size=len(ids), max_size=len(ids))))
    labels = labels.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    with torch.inference_mode():
        output = model(ids, attention_mask=mask, labels=labels)
        logits, targets = output.logits.double(), labels
        if len(shape) == 2:
            # nothing is predicted from padding, nor its token at it; what is, the labels say
            real = (mask[:, :-1] == 1) & ((mask[:, 1:] == 1) | (labels[:, 1:] != model.config.pad_token_id))
            logits, targets = logits[:, :-1][real], labels[:, 1:][real]
        if len(targets):
            expected = torch.nn.functional.cross_entropy(logits, targets)
            torch.testing.assert_close(output.loss.double(), expected, rtol=1e-4, atol=1e-5)
            with pytest.raises((ValueError, IndexError, RuntimeError)):
                model(ids, attention_mask=mask, labels=labels + most + 1)


@few
@given(texts=st.lists(st.lists(LONG_TEXT, min_size=3, max_size=3), min_size=1, max_size=3), data=st.data())
def test_any_pair_gives_in_a_batch_what_it_gives_alone(pair_model, tokenizer, texts, data):
    """Both orders of a pair, or a context with two choices; padded on either side, or cut to the model's length."""
    side = data.draw(st.sampled_from(["left", "right"]))
    width = data.draw(st.sampled_from([None, 128]))
    choices = isinstance(pair_model, GPT1ForMultipleChoice)

    def encode(rows, **padding):
        firsts = [first for first, *seconds in rows for _ in seconds[: 1 + choices]]
        seconds = [second for _, *seconds in rows for second in seconds[: 1 + choices]]
        batch = tokenizer(
            firsts, seconds, truncation=True, max_length=128, split_special_tokens=True, return_tensors="pt", **padding
        )
        return {name: rows.unflatten(0, (-1, 2)) if choices else rows for name, rows in batch.items()}

    with torch.inference_mode():
        together = {"padding": "max_length" if width else "longest", "padding_side": side}
        logits = pair_model(**encode(texts, **together)).logits
        alone = torch.cat([pair_model(**encode([row], padding="longest")).logits for row in texts])
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
        if isinstance(pair_model, GPT1ForSimilarity):
            swapped = [(second, first, rest) for first, second, rest in texts]
            pairs = [tokenizer(*row[:2], split_special_tokens=True)["input_ids"] for row in texts]
            whole = torch.tensor([len(ids) <= 128 for ids in pairs])  # what is cut is another text in the other order
            back = pair_model(**encode(swapped, **together)).logits
            torch.testing.assert_close(back[whole], logits[whole], rtol=1e-4, atol=1e-4)
    assert logits.isfinite().all() and len(logits) == len(texts)


@few
@given(prompt=LONG_TEXT, new_tokens=st.integers(1, 8), sampled=st.booleans())
def test_any_prompt_is_continued_by_text(language_model, tokenizer, prompt, new_tokens, sampled):
    """The prompt stays as it is, and what follows is no special token; a prompt of nothing is refused."""
    ids = tokenizer(prompt, split_special_tokens=True, add_special_tokens=False, return_tensors="pt")["input_ids"]
    if ids.shape[1] == 0:
        with pytest.raises(ValueError, match="empty"):
            language_model(ids)
        return
    continued = language_model.generate(ids, max_new_tokens=new_tokens, do_sample=sampled, top_k=0)
    assert torch.equal(continued[:, : ids.shape[1]], ids)
    added = continued[0, ids.shape[1] :].tolist()
    assert len(added) == new_tokens and not set(added) & set(tokenizer.all_special_ids)
