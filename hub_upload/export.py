"""
A folder that is complete on the Hub: configuration, weights, tokenizer, code, licence and card, and nothing else.

Before it counts as exported, it is loaded where this package is not installed, and has to answer as the model does.
"""

import os
import shutil
from pathlib import Path
from typing import get_args

from transformers import OpenAIGPTModel

from modeling_gpt1.configuration_gpt1 import LICENSE
from modeling_gpt1.convert import to_openai_gpt
from modeling_gpt1.flags import Format
from modeling_gpt1.loading import load_checkpoint, quietly
from tokenization.write_aside import new_folder

from .fresh_process import OPENAI_GPT_AUTO_CLASSES, compare
from .model_card import CARD, CURVE, copy_card
from .refusals import files_of, linked_data


# Of the author's own files, what a card may show or link to.
_PAGES = (".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def export(
    directory: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    format: Format = "gpt1",
    repo_id: str | None = None,
    check: bool = True,
) -> Path:
    """
    Writes a model as a folder that is complete on the Hub.

    It is loaded and saved anew, so that only what belongs to it comes along: `config.json` with a full `auto_map`,
    safetensors, the tokenizer, the code, `generation_config.json` where the model generates, LICENSE, the card with
    its picture, and the author's own pictures, pages and the data files that the card links to, but for hidden ones. A
    card that was edited by hand is kept as it is.

    Args:
        directory: what `save_pretrained`, `Trainer` or `gpt1 finetune` has written.
        output_dir: the folder to write; it must not exist, or be empty.
        format: `"gpt1"`, with its code, or `"openai-gpt"`, which transformers loads without remote code; a language
            model or a classification.
        repo_id: the name under which the card tells how to load it; the folder's own if None.
        check: whether to load it in a fresh process without this package, through every Auto class it claims.

    Returns:
        The folder.

    Raises:
        OSError: no checkpoint at `directory`, one without a tokenizer, or a folder that is taken.
        ValueError: a checkpoint that is not complete, or an export that does not load or answers differently from the
            model. No folder is left.
    """
    directory, output = Path(directory), Path(output_dir)
    if format not in get_args(Format):
        raise ValueError(f"format is one of {', '.join(get_args(Format))}, not {format!r}")
    with new_folder(output) as folder, quietly():
        model, tokenizer = load_checkpoint(directory)
        architecture = type(model).__name__
        tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        if format == "openai-gpt":
            model = to_openai_gpt(model).eval()
            if not isinstance(model, (OpenAIGPTModel, *OPENAI_GPT_AUTO_CLASSES.values())):
                raise ValueError(f"no Auto class loads {architecture} in the format openai-gpt: export it as gpt1")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")
        linked = linked_data(directory)
        for path in files_of(directory):
            own = path.relative_to(directory)
            shown = path.suffix.lower() in _PAGES or own.as_posix() in linked
            hidden = any(part.startswith(".") for part in own.parts)  # an editor's copies, an environment's packages
            if shown and not hidden and str(own) not in (CARD, CURVE):
                (folder / own).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / own)
        copy_card(directory, folder, repo_id or output.resolve().name, architecture)
        if check:
            compare(folder, model, tokenizer)
    return output
