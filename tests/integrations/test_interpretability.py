"""docs/interpretability.md, as it stands there."""

import configparser
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from modeling_gpt1 import GPT1_MINI, GPT1ForCausalLM


REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "interpretability.md"


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


@pytest.fixture
def register():
    """TransformerLens' register with our entry, which it finds by itself where this package is installed."""
    factory = pytest.importorskip(
        "transformer_lens.factories.architecture_adapter_factory", reason="transformer_lens is not installed"
    ).ArchitectureAdapterFactory
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    entries = setup["options.entry_points"]["transformer_lens.architectures"].strip().splitlines()
    for architecture, target in (entry.split(" = ") for entry in entries):
        module, name = target.split(":")
        factory.register_adapter(architecture, getattr(import_module(module), name))


def test_transformer_lens(register, names):
    scope = names("transformer_lens")
    bridge, tokens, cache = scope["bridge"], scope["tokens"], scope["cache"]
    model = GPT1ForCausalLM.from_pretrained(GPT1_MINI, attn_implementation="eager").eval()
    expected = model(tokens, output_hidden_states=True, output_attentions=True)
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(scope["logits"], expected.logits, **close)
    for index, attention in enumerate(expected.attentions):
        torch.testing.assert_close(cache[f"blocks.{index}.attn.hook_pattern"], attention, **close)
        torch.testing.assert_close(cache[f"blocks.{index}.hook_resid_pre"], expected.hidden_states[index], **close)

    rows = torch.cat((torch.full_like(tokens[:, :3], 5), tokens), 1)
    mask = torch.ones_like(rows)
    mask[:, :3] = 0
    got = bridge(rows, attention_mask=mask)[:, 3:]
    torch.testing.assert_close(got, expected.logits, **close)

    width = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight[:, :width] = 0
        torch.testing.assert_close(scope["without_head"], model(tokens).logits, **close)
    assert not torch.allclose(scope["without_head"], expected.logits, atol=1e-2)


@pytest.mark.parametrize(
    "options, message",
    [({"norm_position": "pre", "attn_implementation": "eager"}, "norm_position"), ({}, "attn_implementation")],
)
def test_transformer_lens_is_told_what_does_not_fit(register, tiny_config, options, message):
    sources = import_module("transformer_lens.model_bridge.sources")
    model = GPT1ForCausalLM(tiny_config(**options))
    with pytest.raises(ValueError, match=message):
        sources.build_bridge_from_module(model, "GPT1ForCausalLM", hf_config=model.config)
