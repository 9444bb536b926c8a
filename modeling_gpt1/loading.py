"""Finding what a command's `--model` names: a directory, a Hub id, or a named configuration."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedTokenizerBase

from tokenization import GPT1Tokenizer

from . import modeling_gpt1
from .configuration_gpt1 import NAMED_CONFIGURATIONS, GPT1Config
from .modeling_gpt1 import GPT1PreTrainedModel, GPT1TaskModel


# The packaged checkpoint's directory, for any `from_pretrained`.
GPT1_MINI = str(Path(__file__).with_name("checkpoints") / "gpt1-mini")


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


def set_special_tokens(config: GPT1Config, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the tokenizer's special tokens into the configuration."""
    for name in ("bos", "sep", "cls", "pad", "unk"):
        setattr(config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))


def load_with_tokenizer(
    model_class: type[GPT1PreTrainedModel], model: str, config: GPT1Config, tokenizer: PreTrainedTokenizerBase
) -> GPT1PreTrainedModel:
    """A checkpoint's weights in a model of `model_class`, with new embeddings for tokens that it does not know yet."""
    loaded = model_class.from_pretrained(model, config=config)
    if len(tokenizer) > loaded.config.vocab_size:
        # N(0, initializer_range), as all of the model began
        loaded.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return loaded


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
