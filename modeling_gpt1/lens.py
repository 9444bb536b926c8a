"""
TransformerLens' hooks in our language models: the adapter that its register finds by this package's entry point, as
`transformer_lens.model_bridge.sources.build_bridge_from_module(model, "GPT1ForCausalLM", ...)` asks for it.
"""

from typing import Any

from torch import nn
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    BlockBridge,
    EmbeddingBridge,
    JointQKVAttentionBridge,
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
    PosEmbedBridge,
    UnembeddingBridge,
)

from .modeling_gpt1 import GPT1Attention, GPT1ForCausalLM


def queries_keys_values(attention: GPT1Attention) -> tuple[nn.Linear, ...]:
    """The fused projection as three."""
    fused, parts = attention.qkv_proj, []
    for weight, bias in zip(fused.weight.chunk(3), fused.bias.chunk(3), strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        parts.append(part)
    return tuple(parts)


class GPT1ArchitectureAdapter(ArchitectureAdapter):
    """Which of our modules are which of TransformerLens', for post-norm blocks: each norm comes after its sum."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        cfg.normalization_type = "LN"
        cfg.positional_embedding_type = "standard"
        cfg.final_rms = cfg.gated_mlp = cfg.attn_only = False
        cfg.default_prepend_bos = False  # pre-training has seen no `_start_`
        self.supports_fold_ln = self.supports_center_writing_weights = False  # for norms that come first
        self.weight_processing_conversions = {**self._qkvo_weight_conversions()}
        parts: dict[str, Any] = {"qkv": LinearBridge(name="qkv_proj"), "o": LinearBridge(name="o_proj")}
        block = {
            "attn": JointQKVAttentionBridge("self_attn", cfg, queries_keys_values, parts),
            "ln1": NormalizationBridge(name="attn_norm", config=cfg),
            "mlp": MLPBridge(
                name="mlp",
                config=cfg,
                submodules={"in": LinearBridge(name="up_proj"), "out": LinearBridge(name="down_proj")},
            ),
            "ln2": NormalizationBridge(name="mlp_norm", config=cfg),
        }
        self.component_mapping = {
            "embed": EmbeddingBridge(name="model.embed_tokens"),
            "pos_embed": PosEmbedBridge(name="model.embed_positions"),
            "blocks": BlockBridge(
                name="model.layers",
                config=cfg,
                submodules=block,
                hook_alias_overrides={"hook_resid_mid": "mlp.hook_in"},  # between the two halves of a block
            ),
            "unembed": UnembeddingBridge(name="lm_head"),
        }

    def prepare_model(self, hf_model: GPT1ForCausalLM) -> None:
        """Raises `ValueError` for what has other blocks, or an attention that keeps no scores."""
        if hf_model.config.norm_position != "post":
            raise ValueError('the adapter is for norm_position="post": norms that come first have other hooks')
        if hf_model.config._attn_implementation != "eager":
            raise ValueError('hooks on scores need a model that was loaded with attn_implementation="eager"')
        super().prepare_model(hf_model)
