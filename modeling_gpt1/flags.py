"""What is right and wrong about the values of flags; needs neither torch nor transformers."""

from pathlib import Path
from typing import Any, Literal


# Of a checkpoint: with this package's code, or as transformers loads it without any
Format = Literal["gpt1", "openai-gpt"]
# The packaged checkpoint's directory, for any `from_pretrained`: 8 layers, 384 wide, pre-trained on 411 books.
GPT1_MINI = str(Path(__file__).with_name("checkpoints") / "gpt1-mini")


def checkpoint(model: str) -> str:
    """What `--model` names, for any `from_pretrained`: for gpt1-mini, where it is packaged; else what was said."""
    return GPT1_MINI if model == Path(GPT1_MINI).name else model


def lasting_name(model: str | None) -> str | None:
    """What `--model` names, wherever one stands and whatever becomes of it: a directory by its whole path."""
    return str(Path(model).resolve()) if model and Path(model).is_dir() else model


def check_model(model: str) -> None:
    """Raises `FileNotFoundError` for what can only be a directory and is none, or one without a checkpoint."""
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            if (path / "adapter_config.json").is_file():
                raise FileNotFoundError(
                    f"{model} holds an adapter of PEFT, and no model: put it into its model (PEFT's "
                    "`merge_and_unload`), save that with `save_pretrained`, and give its folder"
                )
            raise FileNotFoundError(f"{model} holds no checkpoint: it has no config.json")
    elif len(path.parts) > 1 and path.parent.is_dir():
        raise FileNotFoundError(f"no checkpoint at {model}: there is no such directory")


def check_file(path: str | Path) -> None:
    """Raises `FileNotFoundError` for a file that is not there; an official one may be a folder."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")


def check_output_file(output_file: str, input_file: str) -> None:
    """Raises `ValueError` where a command would write over what it reads."""
    if Path(output_file).resolve() == Path(input_file).resolve():
        raise ValueError("--output_file is --input_file: give it a name of its own")


def check_flags(args: Any, **checks: tuple[bool, str]) -> None:
    """Raises `ValueError` for the first flag, a field of `args`, that is not right, with what would be."""
    for name, (right, wanted) in checks.items():
        if not right:
            raise ValueError(f"--{name} must be {wanted}, got {getattr(args, name)}")
