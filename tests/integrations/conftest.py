"""A tiny language model with its tokenizer, saved: what other libraries are given."""

import pytest
import torch

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM
from tokenization import GPT1Tokenizer


SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="session")
def shape() -> dict[str, int]:
    return {"vocab_size": len(GPT1Tokenizer()), **SHAPE}


@pytest.fixture(scope="session")
def checkpoint(shape, tmp_path_factory) -> str:
    """A directory with a language model whose predictions are far from uniform."""
    directory = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    model = GPT1ForCausalLM(GPT1Config(**shape, initializer_range=0.2))
    model.save_pretrained(directory)
    GPT1Tokenizer().save_pretrained(directory)
    return str(directory)


@pytest.fixture
def surprisals(checkpoint):
    """-log P(token) for all tokens of a text but the first, computed directly."""

    def of(text: str) -> torch.Tensor:
        ids = GPT1Tokenizer()(text, return_tensors="pt")["input_ids"]
        logits = GPT1ForCausalLM.from_pretrained(checkpoint)(ids).logits
        return -logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).flatten().detach()

    return of
