"""GPT1Config: the shape, the regularisation and the options of a GPT-1 model.

References:
1. A. Radford, K. Narasimhan, T. Salimans, I. Sutskever: Improving Language Understanding by Generative Pre-Training,
   2018 ("the paper").
2. OpenAI's released code, finetune-transformer-lm ("the original code").
"""

import os
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

from .openai_gpt import ACTIVATIONS


# What GPT-2 changed in the blocks. With its vocabulary of 50,257 the sizes below have 124M to 1.5B parameters; the
# smallest was announced as 117M.
_GPT2 = {"norm_position": "pre", "max_position_embeddings": 1024}

# Sizes to start from by name, as differences from the paper's model.
NAMED_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gpt1": {},
    # With N(0, 0.02) at these widths, training stays for long where every token has the same prediction.
    "mini": {
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "initializer_range": 0.04,
    },
    "micro": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "initializer_range": 0.05,
    },
    "gpt2": _GPT2,
    "gpt2-medium": _GPT2
    | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "gpt2-large": _GPT2
    | {"hidden_size": 1280, "num_hidden_layers": 36, "num_attention_heads": 20, "intermediate_size": 5120},
    "gpt2-xl": _GPT2
    | {"hidden_size": 1600, "num_hidden_layers": 48, "num_attention_heads": 25, "intermediate_size": 6400},
}

MOST_LABELS = 1_000_000

SPECIAL_IDS = ("bos_token_id", "sep_token_id", "cls_token_id", "pad_token_id")  # in the order of their rows

# What an openai-gpt configuration has that is named otherwise here, or has no place.
_OPENAI_GPT_NAMES = {
    "afn": "hidden_act, whose 'gelu_pytorch_tanh' is its 'gelu'",
    "summary_first_dropout": "classifier_dropout",
}
_OPENAI_GPT_ONLY = (*_OPENAI_GPT_NAMES, "n_ctx", "n_special", "predict_special_tokens")


@strict
class GPT1Config(PreTrainedConfig):
    r"""
    Configuration of every GPT-1 model. The defaults are the paper's model (section 4.1) with the vocabulary of the
    packaged tokenizer.

    Args:
        vocab_size (`int`, defaults to 40,338):
            Entries of the vocabulary, the four special tokens at its end included.
        hidden_size (`int`, defaults to 768):
            Width of the hidden states. Alias `n_embd`.
        num_hidden_layers (`int`, defaults to 12):
            Number of blocks. Alias `n_layer`.
        num_attention_heads (`int`, defaults to 12):
            Attention heads in each block. Alias `n_head`.
        intermediate_size (`int`, defaults to 3072):
            Width of the feed-forward layer inside a block. Alias `n_inner`.
        max_position_embeddings (`int`, defaults to 512):
            The longest input, in tokens. Alias `n_positions`.
        hidden_act (`str`, defaults to `"gelu_pytorch_tanh"`):
            Activation of the feed-forward layer: GELU in the tanh form of the original code.
        hidden_dropout (`float`, defaults to 0.1):
            Dropout on what attention and feed-forward layer add to the residual stream. Alias `resid_pdrop`.
        embedding_dropout (`float`, defaults to 0.1):
            Dropout on the embeddings. Alias `embd_pdrop`.
        embedding_dropout_type (`"activations"` or `"matrix"`, defaults to `"activations"`):
            What `embedding_dropout` drops: entries of the sum of token and position embeddings, as openai-gpt does, or
            entries of the embedding matrices themselves, as the original code does. With `"matrix"` every occurrence
            of a token loses the same entries, and so does the output layer. The default is the cheaper: a matrix mask
            is 31 million draws a step at full size, however small the batch.
        attention_dropout (`float`, defaults to 0.1):
            Dropout on the attention weights. Alias `attn_pdrop`.
        classifier_dropout (`float`, defaults to 0.1):
            Dropout on the extract state, before a task head's linear layer. In a multiple choice one mask serves the
            choices of an example, as in the original code, so that they are compared on the same entries.
        layer_norm_eps (`float`, defaults to 1e-5):
            Epsilon of the layer norms. Alias `layer_norm_epsilon`.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the initial weights.
        lm_coef (`float`, defaults to 0.5):
            Lambda of the paper's equation 5: the weight of the auxiliary language-modeling loss in the task heads
            while training. 0 switches it off. In a multiple choice the loss is taken within the rows of all choices,
            wrong answers included, each row's mean first, as in the original code: it reads the rows it is given.
        label_smoothing (`float`, defaults to 0.0):
            Part of the probability that the supervised loss of a classification or multiple choice spreads over all
            classes, while training. The paper has none. It stands here because `Trainer`, given a
            `label_smoothing_factor`, takes the labels away and computes the loss by itself, without the auxiliary one.
        lm_loss_weighting (`"additive"` or `"convex"`, defaults to `"additive"`):
            How the two losses combine: `task + lm_coef * lm` as in the paper, or
            `lm_coef * task + (1 - lm_coef) * lm`, as another description of GPT-1 has it.
        norm_position (`"post"` or `"pre"`, defaults to `"post"`):
            Layer norm after each residual sum, as in GPT-1, or before each sublayer with one more norm at the end
            and residual projections initialised smaller by `sqrt(2 * num_hidden_layers)`, as in GPT-2.
        position_embedding_type (`"learned"` or `"sinusoidal"`, defaults to `"learned"`):
            Learned position embeddings, or the fixed sinusoids that the paper's section 4.1 names as the alternative.
        attention_window (`int`, *optional*):
            How many tokens each token sees, itself included: the context size k of the paper's equation 1. All that
            come before it when unset. With `is_causal=False`, how many it sees on each side. Alias `sliding_window`.
        is_causal (`bool`, defaults to `True`):
            Whether a token sees only what comes before it. `False` for masked language modeling.
        use_cache (`bool`, defaults to `True`):
            Whether the model returns keys and values for the next call.
        tie_word_embeddings (`bool`, defaults to `True`):
            Whether the output layer is the token embedding (paper, equation 2). The task heads, which have no output
            layer, compute their auxiliary loss with the embedding in any case.
        unk_token_id (`int`, defaults to 0):
            `<unk>`.
        bos_token_id, sep_token_id, cls_token_id, pad_token_id (`int`, *optional*):
            `_start_`, `_delimiter_`, `_classify_` (the extract token) and `<pad>`. Negative numbers count from the
            end of the vocabulary; by default they are its last four entries, in this order.
        eos_token_id (`int` or `list[int]`, *optional*):
            The paper's end token, which is the extract token: `cls_token_id` when unset.

    Raises:
        ValueError: heads that do not divide the width, a probability outside [0, 1], a size below one, an activation
            that transformers does not have, or classes that are not numbered in order under names of their own.

    ```python
    >>> from modeling_gpt1 import GPT1Config, GPT1Model

    >>> config = GPT1Config(num_hidden_layers=6)
    >>> model = GPT1Model(config)
    ```"""

    model_type = "gpt1"
    # Trainer gathers every other output of a task head over the whole evaluation set.
    keys_to_ignore_at_inference = ["past_key_values", "cache", "task_loss", "lm_loss"]
    attribute_map = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "resid_pdrop": "hidden_dropout",
        "embd_pdrop": "embedding_dropout",
        "attn_pdrop": "attention_dropout",
        "layer_norm_epsilon": "layer_norm_eps",
        "activation_function": "hidden_act",
        # transformers' masks and caches know a limited window by this name
        "sliding_window": "attention_window",
    }

    vocab_size: int = 40_338
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    hidden_act: str = "gelu_pytorch_tanh"
    hidden_dropout: float | int = 0.1
    embedding_dropout: float | int = 0.1
    embedding_dropout_type: Literal["activations", "matrix"] = "activations"
    attention_dropout: float | int = 0.1
    classifier_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    lm_coef: float | int = 0.5
    lm_loss_weighting: Literal["additive", "convex"] = "additive"
    label_smoothing: float | int = 0.0
    norm_position: Literal["post", "pre"] = "post"
    position_embedding_type: Literal["learned", "sinusoidal"] = "learned"
    attention_window: int | None = None
    is_causal: bool = True
    use_cache: bool = True
    tie_word_embeddings: bool = True
    unk_token_id: int | None = 0
    bos_token_id: int | None = -4
    sep_token_id: int | None = -3
    cls_token_id: int | None = -2
    pad_token_id: int | None = -1
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._check_classes()
        # Before a name is made for each
        num_labels = kwargs.get("num_labels")
        if num_labels is not None and not (isinstance(num_labels, int) and 1 <= num_labels <= MOST_LABELS):
            raise ValueError(f"num_labels must lie between 1 and {MOST_LABELS:,}, got {num_labels!r}")
        for name in SPECIAL_IDS:
            token_id = getattr(self, name)
            if token_id is not None and token_id < 0:
                setattr(self, name, self.vocab_size + token_id)
        if self.eos_token_id is None:
            self.eos_token_id = self.cls_token_id
        for name, ours in _OPENAI_GPT_NAMES.items():
            if name in kwargs:
                raise ValueError(f"{name} is a field of openai-gpt: here it is {ours}")
        # What was saved may point at another repository or know one class only; the code travels with every
        # checkpoint, so the map is always this one.
        kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        self.auto_map = self._auto_map()

    def _check_classes(self) -> None:
        """Refuses what a file may hold in place of a head's name and the names of its classes."""
        if self.architectures is not None and not (
            isinstance(self.architectures, list) and all(isinstance(name, str) for name in self.architectures)
        ):
            raise ValueError(f"architectures must be a list of names, got {self.architectures!r}")
        if self.id2label is None:
            return
        if not isinstance(self.id2label, dict) or not self.id2label:
            raise ValueError(f"id2label must be an object of numbers and names, got {self.id2label!r}")
        numbers = [str(number) for number in self.id2label]
        if set(numbers) != {str(number) for number in range(len(numbers))}:
            raise ValueError(f"id2label must number its classes from 0 without a gap, got {', '.join(numbers)}")
        names: set[str] = set()
        for name in map(str, self.id2label.values()):
            if name in names:
                raise ValueError(f"id2label has two classes of the name {name!r}")
            names.add(name)

    def _auto_map(self) -> dict[str, str]:
        """Which class each Auto class loads where this package is not installed."""
        architecture = (self.architectures or [""])[0]
        pair_heads = ("GPT1ForEntailment", "GPT1ForSimilarity")
        causal = {
            "AutoModelForCausalLM": "GPT1ForCausalLM",
            "AutoModelForPreTraining": architecture if architecture == "GPT1DoubleHeadsModel" else "GPT1ForCausalLM",
        }
        heads = {
            "AutoModel": "GPT1Model",
            **(causal if self.is_causal else {}),
            "AutoModelForMaskedLM": "GPT1ForMaskedLM",
            "AutoModelForSequenceClassification": (
                architecture if architecture in pair_heads else "GPT1ForSequenceClassification"
            ),
            "AutoModelForMultipleChoice": "GPT1ForMultipleChoice",
        }
        return {"AutoConfig": "configuration_gpt1.GPT1Config"} | {
            auto_class: f"modeling_gpt1.{name}" for auto_class, name in heads.items()
        }

    def validate_architecture(self) -> None:
        """Part of `@strict`: refuses shapes that no model can have."""
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_attention_heads != 0:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"unknown activation {self.hidden_act!r} (hidden_act); known are {', '.join(ACT2FN)}")
        if self.position_embedding_type == "sinusoidal" and self.hidden_size % 2 != 0:
            raise ValueError(f"sinusoidal positions need an even hidden_size, got {self.hidden_size}")
        if self.attention_window is not None and self.attention_window < 1:
            raise ValueError(f"attention_window must be at least 1, got {self.attention_window}")
        probabilities = "hidden_dropout", "embedding_dropout", "attention_dropout", "classifier_dropout"
        for name in (*probabilities, "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.lm_coef < float("inf"):
            raise ValueError(f"lm_coef must be at least 0, got {self.lm_coef}")

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in transformers; a configuration of model type `openai-gpt` is translated to this one's fields."""
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if config_dict.get("model_type") == "openai-gpt":
            config_dict = cls._from_openai_gpt(config_dict)
        return config_dict, kwargs

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As in transformers, with the licence of the code that is saved along, unless a LICENSE is there already."""
        licence = Path(save_directory, "LICENSE")
        if not licence.exists():
            licence.parent.mkdir(parents=True, exist_ok=True)
            licence.write_text(LICENSE, encoding="utf-8")
        super().save_pretrained(save_directory, push_to_hub, **kwargs)

    @classmethod
    def _from_openai_gpt(cls, config_dict: dict[str, Any]) -> dict[str, Any]:
        translated = {
            name: value
            for name, value in config_dict.items()
            if name not in _OPENAI_GPT_ONLY and not name.startswith("summary_")
        }
        width = translated.get("n_embd", 768)
        activation = config_dict.get("afn", "gelu")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {activation!r} (afn) in an openai-gpt configuration; "
                f"known are {', '.join(ACTIVATIONS)}"
            )
        return translated | {
            "model_type": cls.model_type,
            "architectures": None,
            "n_inner": 4 * width,
            "classifier_dropout": config_dict.get(
                "classifier_dropout", config_dict.get("summary_first_dropout", cls.classifier_dropout)
            ),
            "hidden_act": ACTIVATIONS[activation],
            # The published vocabulary ends before these four.
            **{name: config_dict.get(name) for name in SPECIAL_IDS},
        }


# A text, since only code travels: who saves a model that was loaded as remote code hands the notice on.
LICENSE = """\
MIT License

Copyright (c) 2026 The gpt1 authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


__all__ = ["GPT1Config", "LICENSE", "NAMED_CONFIGURATIONS", "SPECIAL_IDS"]
