"""
Output that is complete or not there: written aside, then renamed.

Enter the context before the work: a place that cannot be written to is refused at once, not after hours.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder, of the same name, whose content is at `path` once the context has ended without an error.

    Raises:
        FileExistsError: `path` is something else than a folder, or a folder that is not empty.
        OSError: it cannot be written to.
    """
    target = Path(path).resolve()
    exists = target.is_dir()
    if target.exists() and not exists:
        raise FileExistsError(f"{path} is not a folder: choose one that is new or empty")
    if exists and any(target.iterdir()):
        raise FileExistsError(f"{path} is not empty: choose a folder that is new or empty")
    # An empty folder stays the one it is: it may be a mount point, or somebody's working directory
    with _aside(target if exists else target.parent, target.name) as folder:
        folder.mkdir()
        yield folder
        if exists:
            for entry in folder.iterdir():
                entry.rename(target / entry.name)
        else:
            folder.rename(target)


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """
    Yields the path of a file to write, which is at `path` once the context has ended without an error.

    Raises:
        FileExistsError: `path` is a folder, a link, a device or a pipe; a file is replaced.
        OSError: it cannot be written to.
    """
    target = Path(path).absolute()
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise FileExistsError(f"{path} is a folder, a link, a device or a pipe: choose the name of a file")
    with _aside(target.parent, target.name) as file:
        file.touch()
        yield file
        file.replace(target)


def write_object(path: str | os.PathLike, value: dict[str, Any]) -> None:
    """Writes an object as JSON, in the place of what a file of this name held; raises what [`new_file`] raises."""
    with new_file(path) as file:
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _aside(parent: Path, name: str) -> Iterator[Path]:
    """This name in a temporary folder under `parent`. If anything fails, nothing is left, new parents included."""
    new_parents = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=parent, prefix=".partial-") as temporary:
            yield Path(temporary, name)
    except BaseException:
        for folder in new_parents:
            with suppress(OSError):
                folder.rmdir()
        raise
