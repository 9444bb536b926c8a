"""A Space for a model: the page of `app.py`, in a repository of the model's name."""

import json
from pathlib import Path

from huggingface_hub import SpaceCardData

from tokenization import markdown


def write_space(directory: Path, exported: Path, repo_id: str, output_dir: Path) -> dict[str, Path]:
    """
    Writes the app, which model it shows, its requirements and the Space's page.

    Args:
        directory: the model in this package's format.
        exported: the model as it goes to the Hub.
        repo_id: the model on the Hub.
        output_dir: the folder to write.

    Returns:
        The files by their names.
    """
    (head,) = json.loads((directory / "config.json").read_text(encoding="utf-8"))["architectures"]
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    model = {"model": repo_id, "head": head, "trust_remote_code": "auto_map" in config}
    title = repo_id.rpartition("/")[2]
    card = SpaceCardData(title=title, sdk="gradio", app_file="app.py", license="mit", models=[repo_id])
    texts = {
        "app.py": Path(__file__).with_name("app.py").read_text(encoding="utf-8"),
        "model.json": json.dumps(model, indent=2) + "\n",
        "requirements.txt": "torch>=2.11\ntransformers>=5.17\n",
        "README.md": f"---\n{card.to_yaml()}\n---\n\nA page to try {markdown.code(repo_id)} on.\n",
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (output_dir / name).write_text(text, encoding="utf-8")
    return {name: output_dir / name for name in texts}
