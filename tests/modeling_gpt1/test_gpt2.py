"""What GPT-2 changed (`norm_position="pre"`): its sizes, and its logits on the same weights."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from modeling_gpt1 import NAMED_CONFIGURATIONS, GPT1Config, GPT1ForCausalLM


# In the order in which both name a block's parts; GPT-2's projections are stored transposed.
BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "self_attn.qkv_proj",
    "attn.c_proj": "self_attn.o_proj",
    "ln_2": "mlp_norm",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}


def from_gpt2(peer: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """GPT-2's parameters under our names."""
    theirs = peer.transformer.state_dict()
    ours = {"embed_tokens.weight": theirs["wte.weight"], "embed_positions.weight": theirs["wpe.weight"]}
    for part in ("weight", "bias"):
        ours[f"norm.{part}"] = theirs[f"ln_f.{part}"]
        for layer in range(peer.config.n_layer):
            for name, our_name in BLOCK.items():
                tensor = theirs[f"h.{layer}.{name}.{part}"]
                ours[f"layers.{layer}.{our_name}.{part}"] = tensor.T if tensor.ndim == 2 else tensor
    return ours


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_logits_equal_gpt2s(spread, agree, implementation):
    peer = spread(GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=3, n_head=4)))
    config = GPT1Config(
        vocab_size=100,
        max_position_embeddings=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        norm_position="pre",
    )
    ours = GPT1ForCausalLM(config)
    ours.model.load_state_dict(from_gpt2(peer))
    ours.set_attn_implementation(implementation)
    peer, ours = peer.eval(), ours.eval()
    ids = torch.randint(100, (2, 64))
    agree("GPT-2: logits, float32", ours(ids).logits, peer(ids).logits, 1e-5)
    agree("GPT-2: logits, float64", ours.double()(ids).logits, peer.double()(ids).logits)
    options = {"do_sample": False, "max_new_tokens": 30, "pad_token_id": 0}
    generated = [model.generate(ids[:, :9], **options) for model in (peer, ours)]
    assert generated[0].tolist() == generated[1].tolist()


# Parameters with GPT-2's vocabulary; announced as 117M, 345M, 762M and 1.5B.
SIZES = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize("name", SIZES)
def test_named_sizes(name):
    config = GPT1Config(vocab_size=50_257, **NAMED_CONFIGURATIONS[name])
    assert config.max_position_embeddings == 1024
    shape = {"n_embd": config.hidden_size, "n_layer": config.num_hidden_layers, "n_head": config.num_attention_heads}
    with torch.device("meta"):
        ours, theirs = GPT1ForCausalLM(config), GPT2LMHeadModel(GPT2Config(**shape))
    for model in (ours, theirs):
        assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]
    assert config.hidden_size // config.num_attention_heads == 64


def test_initialisation_is_scaled_as_gpt2s():
    """Residual projections begin smaller by the square root of the number of residual sums."""
    shape = {"vocab_size": 500, "n_positions": 64, "n_embd": 256, "n_layer": 8, "n_head": 4}
    peer = GPT2LMHeadModel(GPT2Config(**shape))
    ours = GPT1ForCausalLM(GPT1Config(**shape, n_inner=1024, norm_position="pre")).model.state_dict()
    for name, tensor in from_gpt2(peer).items():
        assert abs(ours[name].std().item() - tensor.std().item()) < 5e-4, name
    assert abs(ours["layers.0.mlp.down_proj.weight"].std().item() - 0.02 / 16**0.5) < 1e-4
