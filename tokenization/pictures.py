"""Pictures beside figures, where matplotlib is installed to draw them."""

import sys
from os import PathLike
from typing import Any

from .write_aside import new_file


def new_figure(name: str, **options: Any) -> Any:
    """
    A matplotlib `Figure` to draw on; None where there is no matplotlib, and a line that says what would draw `name`.

    Args:
        name: of the picture.
        options: those of the `Figure`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f'no {name}: matplotlib draws it, `pip install "gpt1[plots]"`', file=sys.stderr)
        return None
    return Figure(layout="constrained", **options)


def save_figure(figure: Any, path: str | PathLike) -> None:
    """Writes a picture whose bytes are the same for the same figures, whichever version of matplotlib drew it."""
    with new_file(path) as file:
        figure.savefig(file, dpi=120, metadata={"Software": None})


__all__ = ["new_figure", "save_figure"]
