"""From files to a trained model, on transformers' Trainer; here, what is known of a run without loading a library."""

import os
import re
from pathlib import Path


# What a run leaves in its directory for a model card, beside Trainer's own files.
FACTS = "card.json"


def updates_of(checkpoint: str | os.PathLike) -> int | None:
    """N of a folder `checkpoint-N`, as `Trainer` names them, or None for another name."""
    name = re.fullmatch(r"checkpoint-(\d+)", Path(checkpoint).name)
    return name and int(name[1])


def checkpoints_in(folder: str | os.PathLike) -> list[Path]:
    """The folders `checkpoint-N` in a run's, from the first to the last."""
    found = {path: updates_of(path) for path in Path(folder).glob("checkpoint-*")}
    updates = {path: number for path, number in found.items() if number is not None}
    return sorted(updates, key=updates.__getitem__)
