"""What tests share: where real data is, tiny models, and padding."""

import os
from pathlib import Path

import pytest
import torch

from modeling_gpt1 import GPT1Config


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: $GPT1_DATA, or shared/data beside the repository."""
    path = Path(os.environ.get("GPT1_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set GPT1_DATA)")
    return path


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_config():
    """Builds configurations of a model that is small, without dropout, and otherwise as a keyword says."""

    def build(**kwargs) -> GPT1Config:
        shape = {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
        }
        dropout = dict.fromkeys(
            ("hidden_dropout", "embedding_dropout", "attention_dropout", "classifier_dropout"), 0.0
        )
        return GPT1Config(**(shape | dropout | kwargs))

    return build


@pytest.fixture
def spread():
    """Draws all parameters from N(0, 0.2), so that no bias is zero and no gain one, and returns the model."""

    def draw(model: torch.nn.Module) -> torch.nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2)
        return model

    return draw


@pytest.fixture
def pad():
    """Pads rows of token ids to one length: input ids and attention mask."""

    def pad_rows(rows: list[list[int]], length: int, pad_id: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.full((len(rows), length), pad_id)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            where = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
            ids[index, where] = torch.tensor(row, dtype=torch.long)
            mask[index, where] = 1
        return ids, mask

    return pad_rows
