"""
Weights and vocabulary from OpenAI's 2018 release and from transformers' `openai-gpt`, and back to the latter.

```bash
gpt1 convert finetune-transformer-lm/model runs/gpt1
gpt1 convert openai-community/openai-gpt runs/gpt1
gpt1 convert runs/gpt1 runs/openai-gpt --to openai-gpt
```

References:
1. OpenAI's released code and weights, finetune-transformer-lm: `model/` and how `train.py` reads it.
2. transformers' OpenAIGPT* models ("openai-gpt").
"""

import json
import os
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
import transformers
from transformers import OpenAIGPTConfig, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from tokenization import GPT1Tokenizer
from tokenization.write_aside import new_folder

from . import modeling_gpt1
from .configuration_gpt1 import SPECIAL_IDS, GPT1Config
from .flags import Format, checkpoint
from .generation_gpt1 import GPT1GenerationMixin
from .loading import (
    check_finite,
    check_vocabulary,
    find_tokenizer,
    load_checkpoint_model,
    load_config,
    load_weights,
)
from .modeling_gpt1 import (
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1PreTrainedModel,
    GPT1TaskModel,
)
from .openai_gpt import (
    ACTIVATIONS,
    ARCHITECTURES,
    CHOICE_HEAD,
    has_linear_choice_head,
    take_special_tokens,
    to_openai_gpt_names,
)


Model = TypeVar("Model", bound=PreTrainedModel)

# OpenAI's release: one flat array in ten files; its shapes; its vocabulary.
PARTS = tuple(f"params_{index}.npy" for index in range(10))
SHAPES = "params_shapes.json"
VOCABULARY, MERGES = "encoder_bpe_40000.json", "vocab_40000.bpe"
# The arrays of a block in the release's order; kernels are (1, in, out).
BLOCK = (
    "self_attn.qkv_proj.weight",
    "self_attn.qkv_proj.bias",
    "self_attn.o_proj.weight",
    "self_attn.o_proj.bias",
    "attn_norm.weight",
    "attn_norm.bias",
    "mlp.up_proj.weight",
    "mlp.up_proj.bias",
    "mlp.down_proj.weight",
    "mlp.down_proj.bias",
    "mlp_norm.weight",
    "mlp_norm.bias",
)

_OPENAI_GPT_CLASSES = {
    "GPT1Model": "OpenAIGPTModel",
    "GPT1ForCausalLM": "OpenAIGPTLMHeadModel",
    "GPT1ForSequenceClassification": "OpenAIGPTForSequenceClassification",
    "GPT1ForEntailment": "OpenAIGPTForSequenceClassification",
    "GPT1ForMultipleChoice": "OpenAIGPTDoubleHeadsModel",
    "GPT1DoubleHeadsModel": "OpenAIGPTDoubleHeadsModel",
}
_ACTIVATIONS = {"gelu_new": "gelu"} | {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
# What openai-gpt has no use for, but hands back when the checkpoint returns.
_KEPT = (
    *SPECIAL_IDS,
    "unk_token_id",
    "classifier_dropout",
    "embedding_dropout_type",
    "lm_coef",
    "lm_loss_weighting",
    "label_smoothing",
)


def convert(source: str | os.PathLike, output_dir: str | os.PathLike, to: Format = "gpt1", seed: int = 42) -> str:
    """
    Turns one kind of checkpoint into another, with its tokenizer, and writes it to `output_dir`.

    From OpenAI's release and from openai-gpt come a gpt1 checkpoint with four more rows of the token embedding,
    N(0, 0.02) and the same for the same seed: `_start_`, `_delimiter_`, `_classify_`, `<pad>`. To openai-gpt they go
    along, with their ids in the configuration, so that a language model that returns has the same bits. A
    classification's bias, for which openai-gpt has no place, moves into the offset of the last norm: equal logits, to
    rounding.

    Args:
        source (`str` or path):
            The folder of OpenAI's release (`params_0.npy` to `params_9.npy`, `params_shapes.json`,
            `encoder_bpe_40000.json`, `vocab_40000.bpe`), or a checkpoint, openai-gpt or gpt1: a directory, a Hub id or
            gpt1-mini.
        output_dir (`str` or path): where to; a folder that is empty or does not exist.
        to (`"gpt1"` or `"openai-gpt"`, defaults to `"gpt1"`): the kind to write.
        seed (`int`, defaults to 42): of the special tokens' rows.

    Returns:
        `str`: one line that says what was written.

    Raises:
        OSError, ValueError: a source that is missing, damaged or of another kind, or that `to` cannot express;
            nothing is written.
    """
    if to not in get_args(Format):
        raise ValueError(f"cannot convert to {to!r}, only to {' or '.join(get_args(Format))}")
    source = checkpoint(str(source))
    with new_folder(output_dir) as folder:
        read, tokenizer = _read(source, to, seed)
        model = to_openai_gpt(read) if to == "openai-gpt" else read
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.model_max_length = model.config.max_position_embeddings
            tokenizer.save_pretrained(folder)
    with_tokenizer = "with its tokenizer" if tokenizer is not None else f"without a tokenizer: {source} has none"
    return f"wrote {output_dir}: {type(model).__name__}, {model.num_parameters():,} parameters, {with_tokenizer}"


def _read(source: str | os.PathLike, to: Format, seed: int) -> tuple[GPT1PreTrainedModel, GPT1Tokenizer | None]:
    """What `source` holds, as a model of this package."""
    directory = Path(source)
    if directory.is_dir() and any((directory / name).exists() for name in (SHAPES, *PARTS)):
        return read_release(directory, seed)
    model_type = _model_type(str(source))
    if model_type == to:
        raise ValueError(f"{source} is a {to} checkpoint already")
    if model_type == "openai-gpt":
        return load_openai_gpt(str(source), seed)
    if model_type != "gpt1":
        raise ValueError(f"{source} is a {model_type} checkpoint; those that convert are gpt1 and openai-gpt")
    model = load_checkpoint_model(source)
    return model, find_tokenizer(source, model.config)


def _model_type(source: str) -> str | None:
    try:
        config_dict, _ = PreTrainedConfig.get_config_dict(source)
    except (OSError, ValueError):
        config_dict = {}
    if not config_dict:
        load_config(source)  # says in one line what is not there
    return config_dict.get("model_type")


def special_rows(seed: int, width: int) -> np.ndarray:
    """The special tokens' embeddings, `(4, width)`: N(0, 0.02), from NumPy's generator that the original code used."""
    return (np.random.RandomState(seed).standard_normal((len(SPECIAL_IDS), width)) * 0.02).astype(np.float32)


def read_release(directory: Path, seed: int) -> tuple[GPT1ForCausalLM, GPT1Tokenizer]:
    """
    The language model and the tokenizer of OpenAI's release.

    Nothing is unpickled, and nothing of a parameter's size is allocated before all sizes have been checked. The format
    does not tell the number of heads: it is 12, as in the released code, where that divides the width, else as many as
    are 64 wide.
    """
    shapes = read_shapes(directory / SHAPES)
    (positions, width), (vocabulary, _) = shapes[:2]
    for name in (VOCABULARY, MERGES):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory / name} is missing")
    parts = [open_part(directory / name) for name in PARTS]
    sizes = [int(np.prod(shape, dtype=object)) for shape in shapes]
    if (total := sum(len(part) for part in parts)) != sum(sizes):
        raise ValueError(f"{directory}: the parts hold {total:,} numbers, the shapes in {SHAPES} {sum(sizes):,}")
    tokenizer = GPT1Tokenizer.from_openai(directory / VOCABULARY, directory / MERGES)
    check_vocabulary(tokenizer, vocabulary, VOCABULARY)

    flat = np.empty(total, np.float32)
    np.concatenate(parts, out=flat)
    arrays = [a.reshape(shape) for a, shape in zip(np.split(flat, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    state_dict = {
        "model.embed_positions.weight": torch.tensor(arrays[0]),
        "model.embed_tokens.weight": torch.from_numpy(np.concatenate((arrays[1], special_rows(seed, width)))),
    }
    for index, array in enumerate(arrays[2:]):
        layer, place = divmod(index, len(BLOCK))
        array = array[0].T if array.ndim == 3 else array
        state_dict[f"model.layers.{layer}.{BLOCK[place]}"] = torch.from_numpy(array.copy(order="C"))
    state_dict["lm_head.weight"] = state_dict["model.embed_tokens.weight"]
    del flat, arrays, array
    config = GPT1Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layer + 1,
        num_attention_heads=12 if width % 12 == 0 else width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=positions,
    )
    model = _from_state_dict(GPT1ForCausalLM, config, state_dict)
    check_finite(model, directory)
    return model, tokenizer


def read_shapes(path: Path) -> list[tuple[int, ...]]:
    """The release's shapes: positions, tokens, then [`BLOCK`] for each layer. Checked against each other."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not (
        isinstance(read, list)
        and all(isinstance(shape, list) and shape and all(type(n) is int and n > 0 for n in shape) for shape in read)
    ):
        raise ValueError(f"{path} is no list of shapes, which are lists of positive numbers")
    shapes = [tuple(shape) for shape in read]
    layers, rest = divmod(len(shapes) - 2, len(BLOCK))
    if layers < 1 or rest or any(len(shape) != 2 for shape in shapes[:2]):
        raise ValueError(f"{path} does not list positions, tokens and {len(BLOCK)} arrays for each layer")
    positions, w = shapes[0]
    block = [(1, w, 3 * w), (3 * w,), (1, w, w), (w,), (w,), (w,), (1, w, 4 * w), (4 * w,), (1, 4 * w, w)] + [(w,)] * 3
    expected = [(positions, w), (shapes[1][0], w)] + layers * block
    for index, (shape, right) in enumerate(zip(shapes, expected, strict=True)):
        if shape != right:
            raise ValueError(f"{path}: array {index} has the shape {shape} where {right} was expected")
    if w % 12 != 0 and w % 64 != 0:
        raise ValueError(f"{path}: a width of {w} can be divided neither into 12 heads nor into heads of 64")
    return shapes


def open_part(path: Path) -> np.memmap:
    """One part of the release, a flat float32 array, mapped but not read; pickles and cut files are refused."""
    try:
        part = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers, or a truncated one: {error}") from error
    if not isinstance(part, np.memmap) or part.dtype != np.float32 or part.ndim != 1:
        kind = f"{part.dtype} {part.shape}" if isinstance(part, np.ndarray) else "an archive"
        raise ValueError(f"{path} holds {kind} where a flat float32 array was expected")
    if path.stat().st_size != part.offset + part.nbytes:
        raise ValueError(f"{path} is longer than its header says")
    return part


def load_openai_gpt(source: str, seed: int) -> tuple[GPT1PreTrainedModel, GPT1Tokenizer | None]:
    """An openai-gpt checkpoint's model, with the special tokens' rows, under the class that has its head."""
    config_dict, _ = PreTrainedConfig.get_config_dict(source)
    architecture = (config_dict.get("architectures") or ["OpenAIGPTLMHeadModel"])[0]
    if architecture == "OpenAIGPTDoubleHeadsModel" and not has_linear_choice_head(config_dict):
        raise ValueError(f"{source} has a multiple-choice head other than a linear layer on the extract state")
    name = ARCHITECTURES.get(architecture, "GPT1ForCausalLM")
    # A checkpoint of the decoder alone is a language model: its output layer is the token embedding.
    model_class = GPT1ForCausalLM if name == "GPT1Model" else getattr(modeling_gpt1, name)
    # what a head lacks has been found by then, but for the bias, which openai-gpt does not have
    model = load_weights(model_class, source, load_config(source), new_head=True)
    tokenizer = find_tokenizer(source, model.config)
    if all(getattr(model.config, name) is not None for name in SPECIAL_IDS):
        return model, tokenizer
    if tokenizer is not None:
        tokenizer.task_format = issubclass(model_class, GPT1TaskModel)
    vocabulary = model.config.vocab_size
    model.resize_token_embeddings(vocabulary + len(SPECIAL_IDS), mean_resizing=False)
    rows = torch.from_numpy(special_rows(seed, model.config.hidden_size))
    for embedding in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):
        with torch.no_grad():
            embedding.weight[vocabulary:] = rows
    for index, name in enumerate(SPECIAL_IDS):
        setattr(model.config, name, vocabulary + index)
    model.config.eos_token_id = model.config.cls_token_id
    if isinstance(model, GPT1GenerationMixin):
        take_special_tokens(model.generation_config, model.config)
        model.generation_config.suppress_tokens = None
        model.suppress_special_tokens()
    return model, tokenizer


def to_openai_gpt(model: GPT1PreTrainedModel) -> PreTrainedModel:
    """
    The openai-gpt model with this one's parameters and logits.

    Raises:
        ValueError: a head or an option that openai-gpt does not have.
    """
    config, name = model.config, type(model).__name__
    wrong = [
        f"{option}={getattr(config, option)!r}"
        for option, possible in {
            "norm_position": "post",
            "position_embedding_type": "learned",
            "attention_window": None,
            "is_causal": True,
            "intermediate_size": 4 * config.hidden_size,
        }.items()
        if getattr(config, option) != possible
    ]
    if config.hidden_act not in _ACTIVATIONS:
        wrong.append(f"hidden_act={config.hidden_act!r}")
    if name not in _OPENAI_GPT_CLASSES:
        wrong.append(f"the head of {name}")
    if wrong:
        raise ValueError(f"openai-gpt cannot express {', '.join(wrong)}")

    state_dict = to_openai_gpt_names(model.state_dict())
    if isinstance(model, (GPT1ForMultipleChoice, GPT1DoubleHeadsModel)):
        for part in ("weight", "bias"):
            state_dict[CHOICE_HEAD + part] = state_dict.pop(f"score.{part}")
        state_dict.setdefault("lm_head.weight", state_dict["transformer.tokens_embed.weight"])
    elif isinstance(model, GPT1ForSequenceClassification):
        last = f"transformer.h.{config.num_hidden_layers - 1}.ln_2.bias"
        offset = _offset_for_bias(state_dict["score.weight"], state_dict.pop("score.bias"))
        state_dict[last] = state_dict[last] + offset
    return _from_state_dict(getattr(transformers, _OPENAI_GPT_CLASSES[name]), _openai_gpt_config(model), state_dict)


def _offset_for_bias(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The shortest vector `d` with `weight d = bias`."""
    offset = torch.linalg.pinv(weight.double()) @ bias.double()
    if not torch.allclose(weight.double() @ offset, bias.double(), atol=1e-6):
        raise ValueError("openai-gpt has no place for the bias of a classification whose weights are not independent")
    return offset.to(bias.dtype)


def _openai_gpt_config(model: GPT1PreTrainedModel) -> OpenAIGPTConfig:
    config = model.config
    labels: dict[str, Any] = {}
    if isinstance(model, GPT1ForSequenceClassification):
        labels = {"id2label": config.id2label, "label2id": config.label2id, "problem_type": config.problem_type}
    return OpenAIGPTConfig(
        vocab_size=config.vocab_size,
        n_positions=config.max_position_embeddings,
        n_embd=config.hidden_size,
        n_layer=config.num_hidden_layers,
        n_head=config.num_attention_heads,
        afn=_ACTIVATIONS[config.hidden_act],
        resid_pdrop=config.hidden_dropout,
        embd_pdrop=config.embedding_dropout,
        attn_pdrop=config.attention_dropout,
        summary_first_dropout=config.classifier_dropout,
        layer_norm_epsilon=config.layer_norm_eps,
        initializer_range=config.initializer_range,
        tie_word_embeddings=config.tie_word_embeddings,
        eos_token_id=config.eos_token_id,
        **{name: getattr(config, name) for name in _KEPT},
        **labels,
    )


def _from_state_dict(model_class: type[Model], config: PreTrainedConfig, state_dict: dict[str, torch.Tensor]) -> Model:
    """A model of these parameters, in their precision, none missing and none left over."""
    dtype = next(iter(state_dict.values())).dtype
    loaded: Any = model_class.from_pretrained(
        None, config=config, state_dict=state_dict, dtype=dtype, output_loading_info=True
    )
    model, info = loaded
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ValueError(f"missing {sorted(info['missing_keys'])}, unexpected {sorted(info['unexpected_keys'])}")
    return model


__all__ = ["convert"]
