"""
A folder that is complete on the Hub: configuration, weights, tokenizer, code, licence and card, and nothing else.

Before it counts as exported, it is loaded where this package is not installed, and has to answer as the model does.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from transformers import OpenAIGPTModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from modeling_gpt1.convert import to_openai_gpt
from modeling_gpt1.loading import load_config
from modeling_gpt1.modeling_gpt1 import AUTO_CLASSES
from tokenization import GPT1Tokenizer

from .fresh_process import OPENAI_GPT_AUTO_CLASSES, compare
from .model_card import CARD, CURVE, copy_card
from .refusals import files_of


Format = Literal["gpt1", "openai-gpt"]

_LICENSE = Path(__file__).with_name("LICENSE")
# Of the author's own files, what a card may show or link to.
_PAGES = (".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def export(
    directory: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    format: Format = "gpt1",
    repo_id: str | None = None,
    check: bool = True,
    model_only: bool = False,
) -> Path:
    """
    Writes a model as a folder that is complete on the Hub.

    It is loaded and saved anew, so that only what belongs to it comes along: `config.json` with a full `auto_map`,
    safetensors, the tokenizer, the code, `generation_config.json` where the model generates, LICENSE, the card with
    its picture, and the author's own pictures and pages. A card that was edited by hand is kept as it is.

    Args:
        directory: what `save_pretrained`, `Trainer` or `gpt1 finetune` has written.
        output_dir: the folder to write; it must not hold anything.
        format: `"gpt1"`, with its code, or `"openai-gpt"`, which transformers loads without remote code; a language
            model or a classification.
        repo_id: the name under which the card tells how to load it; the folder's own if None.
        check: whether to load it in a fresh process without this package, through every Auto class it claims.
        model_only: go without a tokenizer where there is none.

    Returns:
        The folder.

    Raises:
        OSError: no checkpoint at `directory`.
        ValueError: a checkpoint that is not complete, a folder that is taken, or an export that does not load or
            answers differently from the model; no folder is left.
    """
    directory, output = Path(directory), Path(output_dir)
    if format not in get_args(Format):
        raise ValueError(f"format is one of {', '.join(get_args(Format))}, not {format!r}")
    if output.is_dir() and any(output.iterdir()) or output.is_file():
        raise ValueError(f"{output} holds something already: choose another folder")
    with _quietly():
        return _export(directory, output, format, repo_id or output.resolve().name, check, model_only)


def _export(directory: Path, output: Path, format: Format, name: str, check: bool, model_only: bool) -> Path:
    model, tokenizer = load(directory, model_only)
    architecture = type(model).__name__
    if format == "openai-gpt":
        model = to_openai_gpt(model).eval()
        if not isinstance(model, (OpenAIGPTModel, *OPENAI_GPT_AUTO_CLASSES.values())):
            raise ValueError(f"no Auto class loads {architecture} in the format openai-gpt: export it as gpt1")
        if tokenizer is not None:
            tokenizer.model_max_length = model.config.n_positions
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        model.save_pretrained(partial)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        for path in files_of(directory):
            own = path.relative_to(directory)
            if path.suffix.lower() in _PAGES and str(own) not in (CARD, CURVE):
                (partial / own).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, partial / own)
        shutil.copyfile(_LICENSE, partial / "LICENSE")
        copy_card(directory, partial, name, architecture)
        if check:
            compare(partial, model, tokenizer)
        if output.is_dir():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' reports and bars: weights are loaded several times, under heads they were not saved as."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load(directory: Path, model_only: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """
    A checkpoint's model, as the class that it was saved as, and its tokenizer, or with `model_only` None without one.

    Raises:
        OSError: none there.
        ValueError: one of another kind, or one that lacks parameters or its tokenizer.
    """
    config = load_config(str(directory))
    architecture = (config.architectures or ["a model of another kind"])[0]
    classes = {model_class.__name__: model_class for models in AUTO_CLASSES.values() for model_class in models}
    if architecture not in classes:
        raise ValueError(f"{directory} holds {architecture}: a gpt1 checkpoint is needed")
    if not list(directory.glob("*.safetensors")):
        raise ValueError(f"{directory} has no model.safetensors: save it with save_pretrained")
    has_tokenizer = (directory / "tokenizer.json").is_file()
    if not has_tokenizer and not model_only:
        raise ValueError(f"{directory} has no tokenizer.json: save the model's tokenizer beside it")
    model, info = classes[architecture].from_pretrained(directory, output_loading_info=True)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"{directory} lacks {len(missing)} of the model's parameters, {missing[0]} for one")
    tokenizer = GPT1Tokenizer.from_pretrained(directory) if has_tokenizer else None
    if tokenizer is not None and len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"{directory} has a tokenizer of {len(tokenizer)} entries for a model of {model.config.vocab_size}"
        )
    return model.eval(), tokenizer
