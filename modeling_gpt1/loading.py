"""What a command's `--model` and `--config` name; a checkpoint as it was saved."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging

from tokenization import GPT1Tokenizer

from .configuration_gpt1 import NAMED_CONFIGURATIONS, SPECIAL_IDS, GPT1Config
from .flags import check_model
from .json_files import read_object
from .modeling_gpt1 import AUTO_CLASSES, GPT1ForSequenceClassification, GPT1ForSimilarity, GPT1PreTrainedModel
from .openai_gpt import from_openai_gpt


Model = TypeVar("Model", bound=GPT1PreTrainedModel)

_SAVED_CLASSES = {model_class.__name__: model_class for models in AUTO_CLASSES.values() for model_class in models}


def new_config(name: str, tokenizer: PreTrainedTokenizerBase) -> GPT1Config:
    """
    The configuration that `--config` names, one of `NAMED_CONFIGURATIONS` or a JSON file's, for the tokenizer.

    Raises:
        OSError, ValueError: neither, or a misspelt field.
    """
    if name in NAMED_CONFIGURATIONS:
        fields = NAMED_CONFIGURATIONS[name]
    else:
        if not Path(name).is_file():
            raise FileNotFoundError(f"no configuration {name}: give {', '.join(NAMED_CONFIGURATIONS)} or a JSON file")
        fields = read_object(name)
        ours = {*GPT1Config.__annotations__, *GPT1Config.attribute_map}
        for field in sorted(fields.keys() - GPT1Config().to_dict().keys() - ours):
            # Files of other models have fields that mean nothing here
            if similar := get_close_matches(field, ours, n=1, cutoff=0.8):
                raise ValueError(f"{name}: a configuration has no {field!r}: did you mean {similar[0]!r}?")
    config = GPT1Config(**fields | {"vocab_size": len(tokenizer)})
    align(config, tokenizer)
    return config


def load_config(model: str) -> GPT1Config:
    """
    The configuration of a checkpoint, gpt1 or openai-gpt.

    Raises:
        OSError: there is none, here or on the Hub.
    """
    check_model(model)
    if not Path(model).is_dir():
        try:
            validate_repo_id(model)
        except HFValidationError:
            raise FileNotFoundError(f"no checkpoint at {model}: neither a directory nor a Hub id") from None
    try:
        return GPT1Config.from_pretrained(model)
    except OSError as error:
        cause = str(error).partition("\n")[0]
        where = "" if Path(model).is_dir() else "there is no such directory, and on the Hub: "
        raise OSError(f"no checkpoint {model}: {where}{cause}") from error


@overload
def load_checkpoint(
    source: str | os.PathLike, model_class: type[Model], dtype: str = "auto"
) -> tuple[Model, GPT1Tokenizer]: ...


@overload
def load_checkpoint(
    source: str | os.PathLike, model_class: None = None, dtype: str = "auto"
) -> tuple[GPT1PreTrainedModel, GPT1Tokenizer]: ...


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


@overload
def load_checkpoint_model(source: str | os.PathLike, model_class: type[Model], dtype: str = "auto") -> Model: ...


@overload
def load_checkpoint_model(
    source: str | os.PathLike, model_class: type[GPT1PreTrainedModel] | None = None, dtype: str = "auto"
) -> GPT1PreTrainedModel: ...


def load_checkpoint_model(
    source: str | os.PathLike, model_class: type[GPT1PreTrainedModel] | None = None, dtype: str = "auto"
) -> GPT1PreTrainedModel:
    """The model of [`load_checkpoint`]."""
    config = load_config(str(source))
    architecture = config.architectures[0] if config.architectures else None
    saved = _SAVED_CLASSES.get(architecture or "")
    wanted = model_class or saved
    if wanted is None or (architecture and saved is None):
        kind = architecture or "a model of another kind"
        raise ValueError(f"{source} holds {kind}: a gpt1 checkpoint is needed, such as gpt1 convert makes")
    return load_weights(wanted, source, config, dtype=dtype)


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
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # transformers reads without looking
        said = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"the tokenizer of {source} cannot be read: {said}") from error
    special_ids = [getattr(config, name) for name in SPECIAL_IDS]
    check_vocabulary(tokenizer, config.vocab_size, f"of {source}", None if None in special_ids else special_ids)
    return tokenizer


def check_vocabulary(tokenizer: GPT1Tokenizer, rows: int, name: str, special_ids: list[int] | None = None) -> None:
    """
    Refuses a tokenizer of another size than the `rows` of the token embedding. Where special tokens have rows there,
    at the tokenizer's own ids, there may be more rows than tokens, as make the matrix a multiple of what a GPU likes;
    where they have none, their ids must follow the rows.
    """
    ids = [getattr(tokenizer, name) for name in SPECIAL_IDS]
    if ids == special_ids and len(tokenizer) <= rows:
        return
    entries = len(tokenizer) - (len(SPECIAL_IDS) if special_ids is None else 0)
    if entries != rows:
        raise ValueError(f"the vocabulary {name} has {entries:,} entries, the weights are for {rows:,}")
    if special_ids is None and ids != list(range(rows, len(tokenizer))):
        raise ValueError(f"the vocabulary {name} is not numbered from 0 to {rows - 1}")


def load_tokenizer_and_config(model: str) -> tuple[GPT1Tokenizer, GPT1Config]:
    """
    The tokenizer, in task format, and the configuration of a checkpoint.

    Raises:
        OSError: there is none, here or on the Hub.
    """
    config = load_config(model)
    tokenizer = load_checkpoint_tokenizer(model, config)
    tokenizer.task_format = True
    return tokenizer, config


def align(config: GPT1Config, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the tokenizer's special tokens into the configuration, and how long a text may be into the tokenizer."""
    for name in ("bos", "sep", "cls", "eos", "pad", "unk"):
        setattr(config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    tokenizer.model_max_length = config.max_position_embeddings


def load_with_tokenizer(
    model_class: type[Model], model: str, config: GPT1Config, tokenizer: PreTrainedTokenizerBase
) -> Model:
    """
    A checkpoint's weights in a model of `model_class` to train, with a new head where it has none like it, and with
    new embeddings for tokens that it does not know yet.
    """
    loaded = load_weights(model_class, model, config, new_head=True)
    if len(tokenizer) > loaded.config.vocab_size:
        # N(0, initializer_range), as all of the model began
        loaded.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return loaded


def load_weights(
    model_class: type[Model],
    source: str | os.PathLike,
    config: GPT1Config,
    new_head: bool = False,
    dtype: str | None = None,
) -> Model:
    """
    `from_pretrained` that makes no parameter up, or with `new_head` none but those of a task's head.

    Raises:
        ValueError: parameters that are missing, of other sizes than the configuration's, or not finite.
    """
    check_header(source, config, model_class)
    with quietly() if Path(source).is_dir() else nullcontext():  # of a download, the bar is wanted
        loaded: Any = model_class.from_pretrained(source, config=config, dtype=dtype, output_loading_info=True)
    model, info = loaded
    missing = sorted(name for name in info["missing_keys"] if not (new_head and name.startswith("score.")))
    if missing:
        raise ValueError(f"{source} lacks {len(missing)} of its parameters, {missing[0]} for one")
    check_finite(model, source)
    return model


def check_finite(model: torch.nn.Module, name: str | os.PathLike) -> None:
    """Raises `ValueError` for a parameter that holds NaN or infinite numbers."""
    for parameter_name, parameter in model.named_parameters():
        if not is_finite(parameter.detach()):
            raise ValueError(f"{name} is damaged: {parameter_name} holds NaN or infinite numbers")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor's numbers are finite: its extremes tell, in a twentieth of the time of `isfinite`."""
    return tensor.numel() == 0 or bool(torch.stack(tensor.aminmax()).isfinite().all())


class Header(NamedTuple):
    """What a safetensors file says of a tensor."""

    shape: list[int]
    dtype: str


def check_header(source: str | os.PathLike, config: GPT1Config, model_class: type[GPT1PreTrainedModel]) -> None:
    """
    Compares a configuration with the headers of the weights, before anything of its sizes is allocated.

    Raises:
        ValueError: sizes that differ, or tensors of another kind than weights.
    """
    headers = _read_headers(str(source))
    tensors = {name: torch.empty(header.shape, device="meta") for name, header in headers.items()}
    if any("positions_embed" in name for name in tensors):
        tensors = from_openai_gpt(tensors)
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    sizes = {
        field: tensors[name].shape[dimension]
        for field, (name, dimension) in _SHOWN_BY.items()
        if name in tensors and (field != "num_labels" or issubclass(model_class, _SCORES_LABELS))
    }
    if headers:
        sizes["num_hidden_layers"] = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    for field, size in sizes.items():
        if (said := getattr(config, field)) != size:
            to_do = ": start from a model without a task head, or of as many" if field == "num_labels" else ""
            raise ValueError(f"the weights of {source} have {field} {size:,}, the configuration {said:,}{to_do}")
    if getattr(config, "quantization_config", None) is None:
        _check_dtypes(source, config, headers)


# The heads that have a score for each label, rather than for each choice
_SCORES_LABELS = (GPT1ForSequenceClassification, GPT1ForSimilarity)
# The tensor and its dimension that show what a configuration's field must be
_SHOWN_BY = {
    "vocab_size": ("embed_tokens.weight", 0),
    "hidden_size": ("embed_tokens.weight", 1),
    "max_position_embeddings": ("embed_positions.weight", 0),
    "intermediate_size": ("layers.0.mlp.up_proj.weight", 0),
    "num_labels": ("score.weight", 0),
}


def _check_dtypes(source: str | os.PathLike, config: GPT1Config, headers: dict[str, Header]) -> None:
    """Refuses what a header may call weights of as many bytes: integers, and the other half precision."""
    halves: dict[Any, str] = {torch.float16: "BF16", torch.bfloat16: "F16"}
    other_half = halves.get(config.dtype)
    for name, header in headers.items():
        if header.dtype not in ("F64", "F32", "F16", "BF16") or header.dtype == other_half:
            right = str(config.dtype or "floating-point numbers").removeprefix("torch.")
            raise ValueError(f"{source}: {name} is said to be {header.dtype} where {right} were expected")


def _read_headers(source: str) -> dict[str, Header]:
    """Of each tensor in a checkpoint's safetensors, in one file or several; of none where it has no such files."""
    files = [SAFE_WEIGHTS_NAME]
    index = _file_of(source, SAFE_WEIGHTS_INDEX_NAME)
    if index is not None and _file_of(source, SAFE_WEIGHTS_NAME) is None:
        files = _shards(Path(index))
    headers: dict[str, Header] = {}
    for path in filter(None, (_file_of(source, name) for name in files)):
        try:
            with safe_open(path, "pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, no dictionary
                headers |= {name: Header(part.get_shape(), part.get_dtype()) for name, part in slices.items()}
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return headers


def _shards(index: Path) -> list[str]:
    """The files that an index names, all of which lie beside it."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} is no index of weights: {error!r}") from error
    for name in names:
        if name != Path(name).name or name == "..":
            raise ValueError(f"{index} names a file outside its folder: {name}")
    return names


def _file_of(source: str, name: str) -> str | None:
    """The path of a checkpoint's file, downloaded where `source` is a Hub id; None where it has none."""
    try:
        return cached_file(source, name)
    except OSError:
        return None
