"""Which modules PEFT adapts where none are named: those of gpt2, under our names."""

import peft.utils

from .configuration_gpt1 import GPT1Config


GPT2_NAMES = {
    "c_attn": "qkv_proj",
    "mlp.c_proj": "down_proj",
    "ln_1": "attn_norm",
    "ln_2": "mlp_norm",
}


def register() -> None:
    """Adds our model type to PEFT's public tables, one per method (LoRA, IA3, ...), of the modules to adapt."""
    for name, table in vars(peft.utils).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and "gpt2" in table:
            table[GPT1Config.model_type] = [GPT2_NAMES[module] for module in table["gpt2"] if module in GPT2_NAMES]
