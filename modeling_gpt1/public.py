"""The public names of the package; the Auto classes know its classes once this is imported."""

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.import_utils import is_peft_available

from tokenization import GPT1Tokenizer

from .configuration_gpt1 import NAMED_CONFIGURATIONS, GPT1Config
from .flags import GPT1_MINI
from .modeling_gpt1 import (
    AUTO_CLASSES,
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
    GPT1PreTrainedModel,
)
from .processor import optimize_for_inference
from .scoring import features, score


def _register() -> None:
    transformers.AutoConfig.register(GPT1Config.model_type, GPT1Config, exist_ok=True)
    GPT1Config.register_for_auto_class()
    for auto_class, models in AUTO_CLASSES.items():
        # Where one Auto class serves several heads, the checkpoint's `architectures` chooses.
        getattr(transformers, auto_class).register(GPT1Config, models if len(models) > 1 else models[0], exist_ok=True)
        for model in models:
            model.register_for_auto_class(auto_class)
    # Trainer shifts the labels that it smooths (label_smoothing_factor) for the models of this list only.
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[GPT1Config.model_type] = GPT1ForCausalLM.__name__
    transformers.AutoTokenizer.register(GPT1Config, fast_tokenizer_class=GPT1Tokenizer, exist_ok=True)
    if is_peft_available():
        from . import adapters

        adapters.register()


_register()

__all__ = [
    "GPT1_MINI",
    "NAMED_CONFIGURATIONS",
    "GPT1Config",
    "GPT1DoubleHeadsModel",
    "GPT1ForCausalLM",
    "GPT1ForEntailment",
    "GPT1ForMaskedLM",
    "GPT1ForMultipleChoice",
    "GPT1ForSequenceClassification",
    "GPT1ForSimilarity",
    "GPT1Model",
    "GPT1PreTrainedModel",
    "features",
    "optimize_for_inference",
    "score",
]
