"""Objects in JSON files, read or refused with the file's name; needs neither torch nor transformers."""

import json
import os
from pathlib import Path
from typing import Any


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
