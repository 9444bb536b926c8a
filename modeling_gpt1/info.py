"""
What a checkpoint or a run is, on one screen: read from its files alone, so that any directory of `save_pretrained`,
`Trainer` or a command can be shown, in no time and without running what it holds.
"""

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .flags import check_model
from .json_files import read_object
from .training import FACTS, checkpoints_in


# A name of a value in config.json: transformers', and GPT's
SHAPE = {
    "layers": ("num_hidden_layers", "n_layer"),
    "wide": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "positions": ("max_position_embeddings", "n_positions"),
}


def describe(directory: str | os.PathLike) -> dict[str, str]:
    """
    What is known of a checkpoint or a run, each fact under its name, in the order of interest.

    Raises:
        OSError: there is no such directory, or no checkpoint in it.
        ValueError: a file is damaged.
    """
    path = Path(directory)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no directory {directory}")
    check_model(str(directory))
    config = read_object(path / "config.json")
    facts = [
        ("directory", str(directory)),
        *_of_model(config),
        *_of_weights(path),
        *_of_tokenizer(path),
        *_of_run(path),
    ]
    return dict(facts)


def _of_model(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "class", ", ".join(config.get("architectures") or ["unknown"]) + f" ({config.get('model_type', 'no type')})"
    sizes = {word: next((config[n] for n in names if n in config), "?") for word, names in SHAPE.items()}
    yield "shape", ", ".join(f"{size} {word}" for word, size in sizes.items())
    yield "vocabulary", f"{config['vocab_size']:,} tokens" if "vocab_size" in config else "unknown"
    labels = config.get("id2label") or {}
    if config.get("problem_type") == "regression":
        yield "labels", "a number"
    elif labels and [*labels.values()] != [f"LABEL_{index}" for index in range(len(labels))]:
        yield "labels", ", ".join(map(str, labels.values()))


def _of_weights(path: Path) -> Iterator[tuple[str, str]]:
    """From the headers of the safetensors files, which say each tensor's type and shape."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        yield "weights", "none, no safetensors file"
        return
    counts: Counter[str] = Counter()
    for file in files:
        for dtype, shape in _tensors(file):
            counts[dtype] += math.prod(shape)
    yield "parameters", f"{sum(counts.values()):,} ({', '.join(counts)})"
    yield "weights", f"{sum(file.stat().st_size for file in files) / 2**20:.1f} MiB"


def _tensors(file: Path) -> list[tuple[str, list[int]]]:
    """The type and shape of each tensor, of the JSON object after the first 8 bytes, which say its length."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        return [(each["dtype"], each["shape"]) for name, each in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no whole safetensors file") from error


def _of_tokenizer(path: Path) -> Iterator[tuple[str, str]]:
    """Whether it formats the tasks' inputs (`task_format`) is in the template of its post-processor."""
    tokenizer = read_object(path / "tokenizer.json")
    if not tokenizer:
        yield "tokenizer", "none"
        return
    pair = (tokenizer.get("post_processor") or {}).get("pair") or []
    form = " ".join(value["id"] for part in pair for value in part.values())
    entries = len(tokenizer.get("model", {}).get("vocab", ()))
    yield "tokenizer", f"{entries:,} entries and special tokens; a pair of texts becomes: {form or 'A B'}"


def _of_run(path: Path) -> Iterator[tuple[str, str]]:
    facts = read_object(path / FACTS)
    for name in ("task", "dataset", "base_model", "command"):
        if facts.get(name):
            yield name.replace("_", " "), str(facts[name])
    results = read_object(path / "all_results.json")
    figures = [f"{name} {value:.4g}" for name, value in results.items() if _is_result(name, value)]
    if figures:
        yield "results", ", ".join(figures)
    state = read_object(path / "trainer_state.json")
    if state:
        yield "trained", f"{state.get('global_step', '?')} steps, {state.get('epoch') or 0:.3g} epochs"
        if state.get("best_model_checkpoint"):
            best = Path(state["best_model_checkpoint"]).name
            yield "best checkpoint", f"{best}, at {state.get('best_metric'):.4g}"
    if checkpoints := checkpoints_in(path):
        yield "checkpoints", ", ".join(checkpoint.name for checkpoint in checkpoints)


def _is_result(name: str, value: Any) -> bool:
    """Whether it is a figure of the model, not of the run's speed or size."""
    of_run = ("runtime", "per_second", "samples", "flos", "epoch")
    return isinstance(value, (int, float)) and not any(word in name for word in of_run)
