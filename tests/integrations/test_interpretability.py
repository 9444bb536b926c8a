"""docs/interpretability.md, as it stands there."""

import re
from pathlib import Path

import pytest
import torch


PAGE = Path(__file__).parents[2] / "docs" / "interpretability.md"


@pytest.fixture
def names():
    """Runs the page's snippet that names a library; what it leaves."""

    def run(library: str) -> dict:
        pytest.importorskip(library, reason=f"{library} is not installed")
        (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if library in code)
        scope: dict = {}
        exec(code, scope)
        return scope

    return run


def test_captum(names):
    scope = names("captum")
    inputs, shares = scope["inputs"], scope["shares"]
    whole, empty = (
        scope["score"](ids, inputs["attention_mask"])[0, 1] for ids in (inputs["input_ids"], scope["baseline"])
    )
    assert shares.shape == inputs["input_ids"].shape and shares[0, 0] == shares[0, -1] == 0
    torch.testing.assert_close(shares.sum().float(), whole - empty, atol=1e-3, rtol=1e-2)


def test_bertviz(names):
    scope = names("bertviz")
    config, attentions = scope["model"].config, scope["attentions"]
    assert len(attentions) == config.num_hidden_layers and attentions[0].shape[1] == config.num_attention_heads
    assert all(f'"{word}' in scope["page"].data for word in ("cat", "mat"))
