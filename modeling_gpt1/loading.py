"""What a command's `--model` and `--config` name; a checkpoint as it was saved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from tokenization import GPT1Tokenizer

from .configuration_gpt1 import NAMED_CONFIGURATIONS, GPT1Config
from .modeling_gpt1 import AUTO_CLASSES, GPT1PreTrainedModel


# The packaged checkpoint's directory, for any `from_pretrained`.
GPT1_MINI = str(Path(__file__).with_name("checkpoints") / "gpt1-mini")

SPECIAL_IDS = ("bos_token_id", "sep_token_id", "cls_token_id", "pad_token_id")  # in the order of their rows

_SAVED_CLASSES = {model_class.__name__: model_class for models in AUTO_CLASSES.values() for model_class in models}


def checkpoint(model: str) -> str:
    """What `--model` names, for any `from_pretrained`: for gpt1-mini, where it is packaged; else what was said."""
    return GPT1_MINI if model == Path(GPT1_MINI).name else model


def new_config(name: str, tokenizer: PreTrainedTokenizerBase) -> GPT1Config:
    """
    The configuration that `--config` names, one of `NAMED_CONFIGURATIONS` or a JSON file's, for the tokenizer.

    Raises:
        OSError, ValueError: neither.
    """
    if name in NAMED_CONFIGURATIONS:
        fields = NAMED_CONFIGURATIONS[name]
    else:
        if not Path(name).is_file():
            raise FileNotFoundError(f"no configuration {name}: give {', '.join(NAMED_CONFIGURATIONS)} or a JSON file")
        try:
            fields = json.loads(Path(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{name} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{name} must hold an object, the fields of a configuration")
    config = GPT1Config(**fields | {"vocab_size": len(tokenizer)})
    set_special_tokens(config, tokenizer)
    return config


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
        if len(Path(model).parts) > 1 and Path(model).parent.is_dir():
            raise FileNotFoundError(f"no checkpoint at {model}: there is no such directory")
        try:
            validate_repo_id(model)
        except HFValidationError:
            raise FileNotFoundError(f"no checkpoint at {model}: neither a directory nor a Hub id") from None
    try:
        return GPT1Config.from_pretrained(model)
    except OSError as error:
        cause = str(error).partition("\n")[0]
        raise OSError(f"no checkpoint {model}: there is no such directory, and on the Hub: {cause}") from error


def load_checkpoint(
    source: str | os.PathLike, model_class: type[GPT1PreTrainedModel] | None = None, dtype: str = "auto"
) -> tuple[GPT1PreTrainedModel, GPT1Tokenizer]:
    """
    A checkpoint as it was saved: its model, in evaluation mode, and its tokenizer.

    Args:
        source: a directory or a Hub id.
        model_class: a class in place of the one that it was saved as; an openai-gpt checkpoint needs it.
        dtype: of the weights, as in `from_pretrained`; "auto" is the one they were saved in.

    Raises:
        OSError: no checkpoint there, or one without a tokenizer.
        ValueError: no model of this package; parameters that are missing; a tokenizer of another size.
    """
    model = load_checkpoint_model(source, model_class, dtype)
    return model, load_checkpoint_tokenizer(source, model.config)


def load_checkpoint_model(
    source: str | os.PathLike, model_class: type[GPT1PreTrainedModel] | None = None, dtype: str = "auto"
) -> GPT1PreTrainedModel:
    """The model of [`load_checkpoint`]."""
    config = load_config(str(source))
    if model_class is None:
        architecture = (config.architectures or ["a model of another kind"])[0]
        if architecture not in _SAVED_CLASSES:
            raise ValueError(f"{source} holds {architecture}: a gpt1 checkpoint is needed, such as gpt1 convert makes")
        model_class = _SAVED_CLASSES[architecture]
    with quietly() if Path(source).is_dir() else nullcontext():  # of a download, the bar is wanted
        return _load_weights(model_class, source, config=config, dtype=dtype)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' bars and reports: what is wrong with a checkpoint is said once, in an error."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_checkpoint_tokenizer(source: str | os.PathLike, config: GPT1Config) -> GPT1Tokenizer:
    """
    The tokenizer of a checkpoint of this configuration.

    Raises:
        OSError: it has none.
        ValueError: one of another size than the weights'.
    """
    tokenizer = find_tokenizer(source, config)
    if tokenizer is None:
        raise FileNotFoundError(f"{source} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt")
    return tokenizer


def find_tokenizer(source: str | os.PathLike, config: GPT1Config) -> GPT1Tokenizer | None:
    """As [`load_checkpoint_tokenizer`]; None where there is none. One of openai-gpt's gets the special tokens."""
    try:
        tokenizer = GPT1Tokenizer.from_pretrained(source)
    except FileNotFoundError:
        return None
    has_special_rows = all(getattr(config, name) is not None for name in SPECIAL_IDS)
    check_vocabulary(tokenizer, config.vocab_size, f"of {source}", has_special_rows)
    return tokenizer


def check_vocabulary(tokenizer: GPT1Tokenizer, rows: int, name: str, has_special_rows: bool = False) -> None:
    """
    Refuses a tokenizer of another size than the `rows` of the token embedding. Where these have none for the special
    tokens, their ids must follow the rows.
    """
    entries = len(tokenizer) - (0 if has_special_rows else len(SPECIAL_IDS))
    if entries != rows:
        raise ValueError(f"the vocabulary {name} has {entries:,} entries, the weights are for {rows:,}")
    ids = [getattr(tokenizer, name) for name in SPECIAL_IDS]
    if not has_special_rows and ids != list(range(rows, len(tokenizer))):
        raise ValueError(f"the vocabulary {name} is not numbered from 0 to {rows - 1}")


def load_tokenizer_and_config(model: str) -> tuple[PreTrainedTokenizerBase, GPT1Config]:
    """
    The tokenizer, in task format, and the configuration of a checkpoint.

    Raises:
        OSError: there is none, here or on the Hub.
    """
    config = load_config(model)
    tokenizer = load_checkpoint_tokenizer(model, config)
    tokenizer.task_format = True
    return tokenizer, config


def set_special_tokens(config: GPT1Config, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the tokenizer's special tokens into the configuration."""
    for name in ("bos", "sep", "cls", "eos", "pad", "unk"):
        setattr(config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))


def load_with_tokenizer(
    model_class: type[GPT1PreTrainedModel], model: str, config: GPT1Config, tokenizer: PreTrainedTokenizerBase
) -> GPT1PreTrainedModel:
    """
    A checkpoint's weights in a model of `model_class` to train, with a new head where it has none like it, and with
    new embeddings for tokens that it does not know yet.
    """
    loaded = _load_weights(model_class, model, new_head=True, config=config)
    if len(tokenizer) > loaded.config.vocab_size:
        # N(0, initializer_range), as all of the model began
        loaded.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return loaded


def _load_weights(
    model_class: type[GPT1PreTrainedModel], source: str | os.PathLike, new_head: bool = False, **kwargs
) -> GPT1PreTrainedModel:
    """`from_pretrained` that makes no parameter up, or none but those of a task's head."""
    model, info = model_class.from_pretrained(source, output_loading_info=True, **kwargs)
    missing = sorted(name for name in info["missing_keys"] if not (new_head and name.startswith("score.")))
    if missing:
        raise ValueError(f"{source} lacks {len(missing)} of its parameters, {missing[0]} for one")
    return model
