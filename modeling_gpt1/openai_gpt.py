"""
What transformers' OpenAIGPT* models ("openai-gpt") call things: parameters, activations and heads, to be read in both
directions.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import GenerationConfig
from transformers.utils.peft_utils import find_adapter_config_file


# Our parameters and openai-gpt's, as regular expressions for the one and as replacements for the other: `N` is the
# number of a layer. A bare decoder has no prefix, on either side.
PARAMETERS = {
    "model.embed_tokens.": "transformer.tokens_embed.",
    "model.embed_positions.": "transformer.positions_embed.",
    "model.layers.N.self_attn.qkv_proj.": "transformer.h.N.attn.c_attn.",
    "model.layers.N.self_attn.o_proj.": "transformer.h.N.attn.c_proj.",
    "model.layers.N.attn_norm.": "transformer.h.N.ln_1.",
    "model.layers.N.mlp.up_proj.": "transformer.h.N.mlp.c_fc.",
    "model.layers.N.mlp.down_proj.": "transformer.h.N.mlp.c_proj.",
    "model.layers.N.mlp_norm.": "transformer.h.N.ln_2.",
}
CHOICE_HEAD = "multiple_choice_head.summary."  # our `score.`, in a model of two heads

# Which class here has the head of which openai-gpt model.
ARCHITECTURES = {
    "OpenAIGPTModel": "GPT1Model",
    "OpenAIGPTLMHeadModel": "GPT1ForCausalLM",
    "OpenAIGPTDoubleHeadsModel": "GPT1ForMultipleChoice",
    "OpenAIGPTForSequenceClassification": "GPT1ForSequenceClassification",
}

# Arguments of `from_pretrained` that say where a checkpoint is
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")

# openai-gpt's activations, all of which it computes as these.
ACTIVATIONS = {"gelu": "gelu_pytorch_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def _rename(name: str, source: str, target: str) -> str:
    """`name` with `target` in place of `source`, if it begins so, with or without the prefix of the decoder."""
    prefix, _, rest = source.partition(".")
    rest = re.escape(rest).replace("N", r"(\d+)")
    return re.sub(rf"^(?:{prefix}\.)?{rest}", target.replace("N", r"\1"), name)


def _is_projection(name: str) -> bool:
    """Whether openai-gpt stores this parameter, under our name, as (in, out): its projections are no `nn.Linear`."""
    return name.endswith("_proj.weight")


def from_openai_gpt(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters of an openai-gpt model under this package's names, projections as `nn.Linear` stores them."""
    converted = {}
    for name, tensor in state_dict.items():
        for ours, theirs in PARAMETERS.items():
            name = _rename(name, theirs, ours)
        name = re.sub(rf"^{re.escape(CHOICE_HEAD)}", "score.", name)
        converted[name] = tensor.t().contiguous() if _is_projection(name) else tensor
    return converted


def to_openai_gpt_names(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters of one of our models under openai-gpt's names; those of a head keep theirs."""
    converted = {}
    for name, tensor in state_dict.items():
        renamed = name
        for ours, theirs in PARAMETERS.items():
            renamed = _rename(renamed, ours, theirs)
        converted[renamed] = tensor.t().contiguous() if _is_projection(name) else tensor
    return converted


def has_linear_choice_head(config_dict: dict) -> bool:
    """Whether the choice head that an openai-gpt configuration may have is a linear layer on the extract state."""
    options = {"summary_type": "cls_index", "summary_use_proj": True, "summary_proj_to_labels": True}
    same = all(config_dict.get(name, value) == value for name, value in options.items())
    return same and not config_dict.get("summary_activation")


def read_openai_gpt(
    name_or_path: str | os.PathLike, config_dict: dict, head: str, **hub_kwargs: Any
) -> dict[str, torch.Tensor]:
    """
    The parameters of an openai-gpt checkpoint, whatever files it is in, under this package's names.

    Args:
        name_or_path: a directory or a Hub id.
        config_dict: its configuration.
        head: the openai-gpt model whose scores are wanted; those of another head are left out.
        hub_kwargs: those of `from_pretrained` that say where it is.

    Raises:
        ValueError: a checkpoint that lacks parameters, or holds pickled objects.
    """
    architecture = (config_dict.get("architectures") or [None])[0]
    if architecture not in ARCHITECTURES:
        architecture = "OpenAIGPTLMHeadModel"
    try:
        model, info = getattr(transformers, architecture).from_pretrained(
            name_or_path, dtype="auto", output_loading_info=True, **hub_kwargs
        )
    except UnpicklingError:
        raise ValueError(
            f"the weights of {name_or_path} are pickled with more than tensors, and are not loaded: they have to be "
            "in model.safetensors"
        ) from None
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith("lm_head.")):
        raise ValueError(
            f"the openai-gpt checkpoint {name_or_path} lacks {len(missing)} of its parameters, {missing[0]} for one"
        )
    state_dict = from_openai_gpt(model.state_dict())
    if config_dict.get("tie_word_embeddings", True):
        state_dict.pop("lm_head.weight", None)  # the same tensor as the token embeddings
    if architecture == head and has_linear_choice_head(config_dict):
        return state_dict
    return {name: tensor for name, tensor in state_dict.items() if not name.startswith("score.")}


def take_special_tokens(generation_config: GenerationConfig, config: PreTrainedConfig) -> None:
    """Gives what a checkpoint generates by the special tokens of its configuration, in place of its own."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(generation_config, name, getattr(config, name))


def _refuse_adapter(name_or_path: str | os.PathLike, hub_kwargs: dict) -> None:
    """
    Raises:
        ValueError: an adapter of an openai-gpt checkpoint, whose parameters transformers would not find.
    """
    try:
        file = find_adapter_config_file(str(name_or_path), **hub_kwargs)
        if file is None:
            return
        base = json.loads(Path(file).read_text(encoding="utf-8"))["base_model_name_or_path"]
        config_dict, _ = PreTrainedConfig.get_config_dict(base)
    except (OSError, TypeError, ValueError, KeyError):  # which transformers explains
        return
    if config_dict.get("model_type") == "openai-gpt":
        raise ValueError(
            f"{name_or_path} is an adapter of the openai-gpt checkpoint {base}: load that first, and then the adapter "
            "with load_adapter or peft's PeftModel.from_pretrained"
        )


def openai_gpt_arguments(
    name_or_path: str | os.PathLike | None,
    config_class: type[PreTrainedConfig],
    head: str,
    generates: bool,
    kwargs: dict,
) -> dict | None:
    """
    Arguments of `from_pretrained` that hold an openai-gpt checkpoint's configuration and parameters.

    Args:
        name_or_path: a directory or a Hub id; None where the parameters are among `kwargs`.
        config_class: what translates the configuration.
        head: as in [`read_openai_gpt`].
        generates: whether the model has a generation configuration.
        kwargs: the arguments of `from_pretrained` beside.

    Returns:
        The arguments; None where no openai-gpt checkpoint is.

    Raises:
        ValueError: an adapter of one, or a checkpoint that lacks parameters.
    """
    if name_or_path is None:
        return None
    hub_kwargs = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
    try:
        config_dict, _ = PreTrainedConfig.get_config_dict(name_or_path, **hub_kwargs)
    except (OSError, TypeError):  # no configuration there: an adapter, or an error that transformers explains
        config_dict = {}
    if not config_dict:
        _refuse_adapter(name_or_path, hub_kwargs)
    if config_dict.get("model_type") != "openai-gpt":
        return None
    config = kwargs.get("config")
    if not isinstance(config, PreTrainedConfig):  # none, or where it is
        config = config_class.from_pretrained(name_or_path if config is None else config, **hub_kwargs)
        fields = [name for name in kwargs if name != "dtype" and hasattr(config, name)]
        for name in fields:
            setattr(config, name, kwargs[name])
        kwargs = {name: value for name, value in kwargs.items() if name not in fields}
    state_dict = read_openai_gpt(name_or_path, config_dict, head, **hub_kwargs)
    if generates:
        with suppress(OSError):  # there need not be one
            generation_config = GenerationConfig.from_pretrained(name_or_path, **hub_kwargs)
            take_special_tokens(generation_config, config)
            kwargs = {"generation_config": generation_config} | kwargs
    return kwargs | {"config": config, "state_dict": state_dict}


__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "CHOICE_HEAD",
    "from_openai_gpt",
    "has_linear_choice_head",
    "openai_gpt_arguments",
    "read_openai_gpt",
    "take_special_tokens",
    "to_openai_gpt_names",
]
