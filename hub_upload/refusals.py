"""What never leaves this machine: pickles, training states, data, secrets, links to elsewhere, and too much."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from modeling_gpt1.training import FACTS


# What a training run leaves beside the model: no part of an export, and no reason to refuse one.
LEFT_BY_TRAINING = (
    "training_args.bin",
    "trainer_state.json",
    "*_results.json",
    FACTS,
    "checkpoint-*",
    "last-checkpoint",
    "runs",
    "logs",
    ".git",
    ".gitignore",
    ".gitattributes",
    ".cache",
    "__pycache__",
)

_DATA = "a data file"
_FORBIDDEN = {
    "an optimiser or training state": ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*"),
    "a pickle": ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib"),
    _DATA: ("*.csv", "*.tsv", "*.jsonl", "*.parquet", "*.arrow", "*.npy", "*.npz", "*.sqlite", "*.db"),
    "an environment file": (".env", ".env.*", "*.env"),
    "a key or a login": ("*.pem", "*.key", "id_rsa*", "id_ed25519*", ".netrc", ".pypirc", "token", "stored_tokens"),
}

_TOKENS = re.compile(
    rb"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    rb"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"  # GitHub
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    rb"|\bsk-[\w-]{32,}|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{35}"  # OpenAI and like, Slack, Google
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_HIDDEN = "[token]"

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def files_of(directory: Path) -> Iterator[Path]:
    """Every file and link under a directory, in order, without what training leaves there."""
    for path in sorted(directory.iterdir()):
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in LEFT_BY_TRAINING):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files_of(path)
        else:
            yield path


def linked_data(directory: Path) -> set[str]:
    """The data files that a directory's card links to, as it would to a list of sources: they are to be read there."""
    card = directory / "README.md"
    links = re.findall(r"\]\(([^()\s]+)\)", card.read_text("utf-8", errors="replace")) if card.is_file() else []
    return {PurePosixPath(link).as_posix() for link in links if _is_one_of(link, _FORBIDDEN[_DATA])}


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def refuse(directory: str | os.PathLike, secret: str | None = None) -> None:
    """
    Refuses a folder that holds what must not be published.

    Args:
        directory: the folder.
        secret: the login's token, to be found in whatever form it has.

    Raises:
        ValueError: files that are pickles, training states, data that the card does not link to, environment files,
            keys, hold what looks like a token, or are links that leave the folder; all are named, no token is.
    """
    directory = Path(directory).resolve()
    linked, found = linked_data(directory), []
    for path in files_of(directory):
        reason = _objection(path, directory, linked, secret)
        if reason is not None:
            # A file's name could be a token as well
            found.append(f"{scrub(str(path.relative_to(directory)), secret)} ({reason})")
    if found:
        raise ValueError(f"not for the Hub: {', '.join(found)}; nothing was sent, take these out of {directory.name}/")


def _objection(path: Path, directory: Path, linked: set[str], secret: str | None) -> str | None:
    if path.is_symlink():
        if not path.exists():
            return "a link to nothing"
        if not path.resolve().is_relative_to(directory):
            return "a link that leaves the folder"
        if path.is_dir():
            return "a link to a folder"
    if not path.is_file():
        return "not a file"
    for reason, patterns in _FORBIDDEN.items():
        allowed = reason == _DATA and path.relative_to(directory).as_posix() in linked
        if not allowed and _is_one_of(path.name, patterns):
            return reason
    if _holds_token(path, secret):
        return "holds what looks like a token or a private key"
    return None


def _holds_token(path: Path, secret: str | None) -> bool:
    """Looks through the file's name and its content, piece by piece; of weights only at the header."""
    wanted = None if secret is None else secret.encode()
    tail = os.fsencode(path.name) + b"\n"
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            text = tail + piece
            if _TOKENS.search(text) or (wanted is not None and wanted in text):
                return True
            if path.suffix == ".safetensors":
                return False
            tail = piece[-4096:]
    return bool(_TOKENS.search(tail)) or (wanted is not None and wanted in tail)


def refuse_size(files: dict[str, int], max_size: int | str) -> None:
    """
    Refuses more bytes than `max_size`, a number or like `"5GB"`.

    Raises:
        ValueError: too much, or a size that cannot be read.
    """
    total, limit = sum(files.values()), size_in_bytes(max_size)
    if total > limit:
        largest = max(files, key=files.__getitem__)
        raise ValueError(
            f"{readable_size(total)} to send, more than max_size {readable_size(limit)}; "
            f"the largest is {largest}, {readable_size(files[largest])}"
        )


def size_in_bytes(size: int | str) -> int:
    """`5_000_000`, `"5MB"` or `"5MiB"` as a number of bytes; a ValueError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:_\d+)*(?:\.\d+)?|\.\d+)\s*([KMGT]?I?)B?\s*", str(size).upper())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"max_size is a number of bytes or like 5GB, not {size!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def readable_size(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def scrub(text: str, secret: str | None = None) -> str:
    """The text without the token, and without anything that looks like one."""
    if secret:
        text = text.replace(secret, _HIDDEN)
    return _TOKENS.sub(_HIDDEN.encode(), text.encode(errors="replace")).decode()
