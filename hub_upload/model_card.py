"""The model card: a template filled from what the training run wrote; every number is one of `all_results.json`."""

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData


_TEMPLATE = Path(__file__).with_name("model_card.md")

# Pipeline tag, first words and way of use of each class.
_CLASSIFY = """from transformers import pipeline

classify = pipeline("text-classification", model="{name}", trust_remote_code=True)
classify({example})"""
_CHOOSE = """from transformers import AutoModelForMultipleChoice

model = AutoModelForMultipleChoice.from_pretrained("{name}", trust_remote_code=True)"""
_PAIR = '{"text": "A man sleeps.", "text_pair": "A man is awake."}'
_HEADS = {
    "GPT1ForSequenceClassification": ("text-classification", "A classifier of texts", _CLASSIFY, '"A fine story."'),
    "GPT1ForEntailment": ("text-classification", "A classifier of pairs of texts", _CLASSIFY, _PAIR),
    "GPT1ForSimilarity": ("text-classification", "A symmetric comparison of two texts", _CLASSIFY, _PAIR),
    "GPT1ForMultipleChoice": ("multiple-choice", "A chooser among answers", _CHOOSE, ""),
}
_NOT_METRICS = ("loss", "runtime", "samples", "samples_per_second", "steps_per_second", "flos")


def write_model_card(
    directory: str | os.PathLike,
    task: str,
    dataset: str | None = None,
    base_model: str | None = None,
    settings: dict[str, Any] | None = None,
    paper: tuple[str, float] | None = None,
) -> Path:
    """
    Writes `README.md` into a directory that a training run has written.

    Args:
        directory: holds `config.json` and `all_results.json`.
        task: the task's name.
        dataset: the data set's Hub id, where it has one.
        base_model: the checkpoint that was fine-tuned; None for one trained from scratch.
        settings: what to list of the training, by name.
        paper: the published metric and figure, in percent.

    Returns:
        The file.
    """
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    figures = json.loads((directory / "all_results.json").read_text(encoding="utf-8"))
    tag, what, snippet, example = _HEADS[config["architectures"][0]]
    name = directory.resolve().name
    results = [
        (split, metric, value)
        for key, value in figures.items()
        for split, _, metric in [key.partition("_")]
        if split in ("eval", "test") and metric not in _NOT_METRICS
    ]
    data = ModelCardData(
        language="en",
        license="mit",
        library_name="transformers",
        pipeline_tag=tag,
        tags=["gpt1"],
        base_model=base_model,
        datasets=dataset,
        metrics=sorted({metric for _, metric, _ in results}),
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=tag,
                dataset_type=dataset or task,
                dataset_name=task,
                dataset_split={"eval": "validation"}.get(split, split),
                metric_type=metric,
                metric_value=value,
            )
            for split, metric, value in results
        ]
        or None,
    )
    shape = "{num_hidden_layers} layers, {hidden_size} wide, {num_attention_heads} heads".format_map(config)
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        model_name=name,
        what=f"{what}, for {task}",
        shape=shape,
        base_model=base_model,
        snippet=snippet.format(name=name, example=example),
        settings=settings or {},
        results=results,
        paper=paper,
        max_length=config["max_position_embeddings"],
    )
    path = directory / "README.md"
    card.save(path)
    return path
