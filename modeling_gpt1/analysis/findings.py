"""What an analysis has found: kept as JSON, shown as a Markdown table and a picture."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenization.pictures import new_figure, save_figure
from tokenization.write_aside import new_file

from ..json_files import read_object


class Findings:
    """
    What an analysis has found so far, in `NAME.json`, or about one of several tasks in `NAME-TASK.json`.

    Args:
        output_dir (`str` or path): where it is written; made if it is not there.
        name (`str`): the analysis.
        settings (`dict`): what the findings depend on.
        task (`str`, *optional*): what they are about, where a table and a picture show several together.

    Raises:
        ValueError: `output_dir` holds findings of other settings, or none in a file of this name.
    """

    def __init__(self, output_dir: str | os.PathLike, name: str, settings: dict[str, Any], task: str | None = None):
        self.folder, self.name = Path(output_dir), name
        self.path = self.folder / f"{name if task is None else f'{name}-{task}'}.json"
        self.settings = json.loads(json.dumps(settings))
        self.found: dict[str, Any] = {}
        if self.path.is_file():
            earlier = _read(self.path)
            if earlier["settings"] != self.settings:
                raise ValueError(
                    f"{self.path} was made with other settings, {earlier['settings']}: choose another --output_dir"
                )
            self.found = earlier["found"]

    def of(self, key: str, measure: Callable[[], Any]) -> Any:
        """What was found under `key`, which is measured and written unless it is there already."""
        if key not in self.found:
            with new_file(self.path) as file:
                found = self.found | {key: measure()}
                file.write_text(
                    json.dumps({"settings": self.settings, "found": found}, indent=2) + "\n", encoding="utf-8"
                )
            self.found = found
        return self.found[key]

    def of_tasks(self) -> dict[str, dict[str, Any]]:
        """What `output_dir` holds of each task, `settings` and `found`, this one's among them."""
        paths = sorted(self.folder.glob(f"{self.name}-*.json"))
        return {path.stem.removeprefix(f"{self.name}-"): _read(path) for path in paths}

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
        """Writes a Markdown table to `NAME.md`, and returns it."""
        lines = [list(columns), *([str(cell) for cell in row] for row in rows)]
        lines.insert(1, ["---"] * len(lines[0]))
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        with new_file(self.folder / f"{self.name}.md") as file:
            file.write_text(table, encoding="utf-8")
        return table

    def picture(self, draw: Callable[[Any], None]) -> None:
        """Lets `draw` fill a matplotlib `Figure`, and writes it to `NAME.png`, if there is matplotlib."""
        picture = self.folder / f"{self.name}.png"
        figure = new_figure(picture.name)
        if figure is not None:
            draw(figure)
            save_figure(figure, picture)


def short_name(model: str) -> str:
    """A model's name without the way to it; that of a run's checkpoint, with the run."""
    *_, run, last = ("", *Path(model).parts)
    return f"{run}/{last}" if last.startswith("checkpoint-") else last


def _read(path: Path) -> dict[str, Any]:
    with suppress(ValueError):
        earlier = read_object(path)
        if {"settings", "found"} <= set(earlier):
            return earlier
    raise ValueError(f"{path} holds no findings of an analysis: choose another --output_dir")


__all__ = ["Findings", "short_name"]
