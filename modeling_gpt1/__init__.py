"""GPT-1 for transformers: configuration, model and heads, known to the Auto classes once this is imported."""

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING


__version__ = "0.1.0"


def load() -> None:
    """Imports the public names, torch and transformers with them, and registers the classes with the Auto classes."""
    from . import public

    globals().update({name: getattr(public, name) for name in public.__all__}, __all__=public.__all__)


def _starts_the_command() -> bool:
    """
    Whether this process is the `gpt1` command, which calls `load` itself, when it knows that it needs a model: its
    help and its version are there at once. For an installation in an unusual place it is False, and that only slower.
    """
    if sys.argv[0] == "-m":  # Python is looking for the module to run
        return sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == [__name__] if "-m" in sys.orig_argv else False
    program = Path(sys.argv[0])
    return program.stem == "gpt1" and program.parent == Path(sysconfig.get_path("scripts"))


if TYPE_CHECKING:
    from .public import *  # noqa: F403
elif not _starts_the_command():
    load()
