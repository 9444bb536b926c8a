"""Objects in JSON files: read, or refused with the file's name; written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from .write_aside import new_file


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """
    The object that a JSON file holds; an empty one where there is no such file.

    Raises:
        ValueError: it is no JSON, or was cut off, or holds something else.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold an object")
    return value


def write_object(path: str | os.PathLike, value: dict[str, Any]) -> None:
    """Writes an object as JSON, in the place of what a file of this name held."""
    with new_file(path) as file:
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
