"""Finding what a command's `--model` names: a directory, a Hub id, or a named configuration."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedTokenizerBase

from tokenization import GPT1Tokenizer

from . import modeling_gpt1
from .configuration_gpt1 import NAMED_CONFIGURATIONS, GPT1Config
from .modeling_gpt1 import GPT1TaskModel


def load_config(model: str) -> GPT1Config:
    """
    The configuration of a checkpoint, gpt1 or openai-gpt.

    Raises:
        OSError: there is none, here or on the Hub.
    """
    if Path(model).is_dir():
        if not Path(model, "config.json").is_file():
            raise FileNotFoundError(f"{model} holds no checkpoint: it has no config.json")
    else:
        try:
            validate_repo_id(model)
        except HFValidationError:
            raise FileNotFoundError(f"no checkpoint at {model}: neither a directory nor a Hub id") from None
    try:
        return GPT1Config.from_pretrained(model)
    except OSError as error:
        raise OSError(f"no checkpoint {model}, neither as a directory nor on the Hub: {error}") from error


def load_tokenizer_and_config(model: str) -> tuple[PreTrainedTokenizerBase, GPT1Config]:
    """
    The tokenizer, in task format, and the configuration of a checkpoint or of a named configuration.

    Raises:
        OSError: neither.
    """
    if model in NAMED_CONFIGURATIONS:
        tokenizer = GPT1Tokenizer(task_format=True)
        return tokenizer, GPT1Config(vocab_size=len(tokenizer), **NAMED_CONFIGURATIONS[model])
    config = load_config(model)
    return GPT1Tokenizer.from_pretrained(model, task_format=True), config


def task_head(model: str, config: GPT1Config) -> type[GPT1TaskModel]:
    """
    The class that a fine-tuned checkpoint was saved as.

    Raises:
        ValueError: one without a task head.
    """
    architecture = (config.architectures or ["a model"])[0]
    head = getattr(modeling_gpt1, architecture, None)
    if not (isinstance(head, type) and issubclass(head, GPT1TaskModel)):
        raise ValueError(f"{model} holds {architecture}, which has no task head: fine-tune it first")
    return head
