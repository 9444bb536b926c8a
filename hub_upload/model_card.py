"""
The model card: a template filled from what the training run wrote; every number is one of `all_results.json`.

What the run knows and its other files do not tell, the task or the corpus, the data and the settings, it leaves in
`card.json`, so that an export can write the card again under the repository's name.
"""

import hashlib
import os
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from modeling_gpt1.info import SHAPE
from modeling_gpt1.json_files import read_object
from modeling_gpt1.training import FACTS
from tokenization.markdown import block, code, literal, one_line, text
from tokenization.pictures import new_figure, save_figure
from tokenization.write_aside import write_object


CARD, CURVE = "README.md", "loss.png"

_TEMPLATE = Path(__file__).with_name("model_card.md")
# In the cards that Trainer writes, as long as nobody has taken the comment out as it asks, and in those that a model's
# or a tokenizer's own `push_to_hub` does.
_GENERATED = (
    b"has been generated automatically according to",
    b"This model card has been automatically generated.",
)
_TASK_METRICS = ("accuracy", "f1", "matthews_correlation", "pearson", "spearmanr")
_LANGUAGE_METRICS = ("loss", "word_perplexity", "perplexity")  # the longer of two endings first

_CLASSIFY = """from transformers import pipeline

classify = pipeline("text-classification", model={name}{trust})
print(classify({example}))"""
_SCORE = """from transformers import pipeline

score = pipeline("text-classification", model={name}{trust}, function_to_apply="none")
print(score({example}))"""
_CHOOSE = """import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForMultipleChoice.from_pretrained({name}{trust})
question, answers = "Tom was hungry. What did he do?", ["He ate an apple.", "He sold his shoes."]
inputs = tokenizer([question] * len(answers), answers, padding=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**{{name: tensor.unsqueeze(0) for name, tensor in inputs.items()}}).logits
print(answers[logits.argmax()])"""
_GENERATE = """from transformers import pipeline

generate = pipeline("text-generation", model={name}{trust})
print(generate({example}, max_new_tokens=20))"""
_FILL = """from transformers import pipeline

fill = pipeline("fill-mask", model={name}{trust})
print(fill({example})[0])"""
_LOGITS = """import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModel.from_pretrained({name}{trust})
with torch.inference_mode():
    print(model(**tokenizer({example}, return_tensors="pt"))[0].shape)"""

_TEXT, _MASKED, _PROMPT = "A delightful evening.", "A delightful <mask>.", "It was a bright cold day in april,"
_PAIR = '{"text": "A man sleeps.", "text_pair": "A man is awake."}'


@dataclass(frozen=True)
class _Kind:
    """How a model class shows on the Hub: its tag, first words, way of use, its example in code or as a text."""

    tag: str
    what: str
    snippet: str
    example: str
    widget: str | None = None
    metrics: tuple[str, ...] = _TASK_METRICS


_KINDS = {
    "GPT1Model": _Kind("feature-extraction", "Hidden states of texts", _LOGITS, "", _TEXT),
    "GPT1ForCausalLM": _Kind("text-generation", "A language model", _GENERATE, "", _PROMPT, _LANGUAGE_METRICS),
    "GPT1ForMaskedLM": _Kind("fill-mask", "A model of texts from both sides", _FILL, "", _MASKED, _LANGUAGE_METRICS),
    "GPT1ForSequenceClassification": _Kind("text-classification", "A classifier of texts", _CLASSIFY, "", _TEXT),
    "GPT1ForEntailment": _Kind("text-classification", "A classifier of pairs of texts", _CLASSIFY, _PAIR),
    "GPT1ForSimilarity": _Kind("text-classification", "A symmetric comparison of two texts", _CLASSIFY, _PAIR),
    "GPT1ForMultipleChoice": _Kind("multiple-choice", "A chooser among answers", _CHOOSE, ""),
    "GPT1DoubleHeadsModel": _Kind(
        "text-generation", "A language model and a chooser among answers", _GENERATE, "", _PROMPT
    ),
}


@dataclass(kw_only=True)
class Facts:
    """
    What a card says beyond the model's own files; what is None is unknown, and the card says so.

    Attributes:
        task: the task's name; None for a language model.
        dataset: the data set's Hub id, where it has one.
        corpus: what the model was trained on, in words.
        base_model: the checkpoint that was fine-tuned; None for one trained from scratch.
        columns: those of the texts and choices, by the flags that named them.
        settings: what to list of the training, by name; an empty one where there was none to tell of.
        command: the command that trains it anew.
        sample: text that it has generated.
        paper: the published metric and figure, as the paper prints it: a perplexity, and all else in percent. Those
            that stand in the results themselves go before it.
        caveat: what else to know beside the published figure.
        tags: further tags, beside those that every card has.
        written: the digest of the card as it was written, to tell whether somebody has edited it since.
    """

    task: str | None = None
    dataset: str | None = None
    corpus: str | None = None
    base_model: str | None = None
    columns: dict[str, list[str] | None] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    sample: str | None = None
    paper: tuple[str, float] | None = None
    caveat: str = ""
    tags: list[str] = field(default_factory=list)
    written: str | None = None


def write_model_card(directory: str | os.PathLike, **facts: Any) -> Path:
    """
    Writes `README.md` and its picture into a directory that a training run has written; one that somebody has written
    by hand stays as it is.

    Args:
        directory: holds `config.json`, `all_results.json`, `trainer_state.json` and `card.json`.
        facts: those of [`Facts`], by name, that are to be told beside or in place of the ones in `card.json`.

    Returns:
        The file.
    """
    directory = Path(directory)
    known = replace(read_facts(directory), **facts)
    if not is_hand_written(directory / CARD, known):
        card = make_card(directory, directory, known, directory.resolve().name)
        known.written = hashlib.sha256(card.read_bytes()).hexdigest()
    write_object(directory / FACTS, asdict(known))
    return directory / CARD


def read_facts(directory: Path) -> Facts:
    """What is known of the run that wrote the directory, and of the card that it has."""
    return Facts(**read_object(directory / FACTS))


def is_hand_written(card: Path, facts: Facts) -> bool:
    """Whether there is a card that somebody has written or edited, and neither this package nor transformers made."""
    if not card.is_file():
        return False
    content = card.read_bytes()
    return hashlib.sha256(content).hexdigest() != facts.written and not is_generated(content)


def is_generated(card: bytes) -> bool:
    """Whether transformers made this card."""
    return any(mark in card for mark in _GENERATED)


def copy_card(source: Path, output_dir: Path, name: str, architecture: str) -> Path:
    """
    The card of an export with its picture: the one that somebody has written by hand, as it is, or one made anew under
    its new name.

    Args:
        source: the directory that a training run, `save_pretrained` or a person has written.
        output_dir: the export, with `config.json`.
        name: the repository's name.
        architecture: the model's class in this package, whatever format it is exported in.
    """
    facts = read_facts(source)
    if is_hand_written(source / CARD, facts):
        if (source / CURVE).is_file():
            shutil.copyfile(source / CURVE, output_dir / CURVE)
        return Path(shutil.copyfile(source / CARD, output_dir / CARD))
    return make_card(source, output_dir, facts, name, architecture)


def make_card(source: Path, output_dir: Path, facts: Facts, name: str, architecture: str | None = None) -> Path:
    """Fills the template from the results and the log in `source` and the configuration in `output_dir`."""
    config = read_object(output_dir / "config.json")
    kind = _KINDS[architecture or (config.get("architectures") or ["GPT1Model"])[0]]
    regression = config.get("problem_type") == "regression"
    labels = [] if regression or kind.tag != "text-classification" else list(config.get("id2label", {}).values())
    written = read_object(source / "all_results.json")
    results = results_among(written, kind.metrics)
    log = read_object(source / "trainer_state.json").get("log_history", [])
    language_model = kind.metrics is _LANGUAGE_METRICS
    base_model, dataset = _hub_id(facts.base_model), _hub_id(facts.dataset)
    mask = read_object(output_dir / "tokenizer_config.json").get("mask_token") or "<mask>"
    mask = mask.get("content") if isinstance(mask, dict) else mask
    widget = kind.widget and kind.widget.replace("<mask>", one_line(mask))
    example = kind.example if widget is None else literal(widget)
    published = published_figures(written, results, facts.paper)
    data = ModelCardData(
        language="en",
        license="mit",
        library_name="transformers",
        pipeline_tag=kind.tag,
        tags=list(dict.fromkeys(["gpt1", *(["custom_code"] if "auto_map" in config else []), *facts.tags])),
        base_model=base_model,
        datasets=[dataset] if dataset else None,
        metrics=sorted({metric for _, metric, _ in results}) or None,
        widget=[{"text": widget}] if widget else None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=kind.tag,
                dataset_type=dataset or ("custom" if facts.task or facts.corpus else "unknown"),
                dataset_name=(facts.task or dataset) if dataset else _data(facts, None),
                dataset_split=split,
                metric_type=metric,
                metric_value=value,
            )
            for split, metric, value in results
        ]
        or None,
    )
    trust = ", trust_remote_code=True" if "auto_map" in config else ""
    snippet = _SCORE if regression else kind.snippet
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        model_name=text(name),
        what=kind.what + (f", for the task {text(facts.task)}" if facts.task else ""),
        origin=_origin(facts, base_model),
        shape=_shape(config),
        labels=list(map(text, labels)),
        requirement=(
            "transformers and torch are enough; the model's code comes with it, and `trust_remote_code` runs it."
            if trust
            else "transformers and torch are enough."
        ),
        snippet=block(snippet.format(name=literal(name), trust=trust, example=example), "python"),
        data=_data(facts, dataset, text),
        settings={text(setting): text(value) for setting, value in facts.settings.items()},
        command=facts.command and block(facts.command, "bash"),
        sample=facts.sample and block(textwrap.fill(facts.sample, 100), "text"),
        curve=draw_curve(log, output_dir / CURVE),
        apart=is_apart(log),
        lm_coef=None if language_model else read_object(source / "config.json").get("lm_coef"),
        language_model=language_model,
        results=[
            (text(split), metric, value, published.get((split, metric), "-")) for split, metric, value in results
        ],
        published=published,
        caveat=facts.caveat,
        max_length=config.get("max_position_embeddings") or config.get("n_positions"),
    )
    path = output_dir / CARD
    card.save(path)
    return path


def results_among(written: dict[str, Any], metrics: tuple[str, ...]) -> list[tuple[str, str, float]]:
    """Split, metric and value of every such result that a run has written."""
    results = []
    for key, value in written.items():
        metric = next((metric for metric in metrics if key.endswith(f"_{metric}")), None)
        if metric is not None and not key.startswith("train_"):
            split = key.removesuffix(f"_{metric}")
            results.append((split.replace("eval", "validation", 1), metric, value))
    return results


def published_figures(
    written: dict[str, Any], results: list[tuple[str, str, float]], paper: tuple[str, float] | None
) -> dict[tuple[str, str], str]:
    """What was published beside each split and metric: as the run wrote it with its results, or else `paper`."""
    published = {}
    for split, metric, _ in results:
        key = f"{split.replace('validation', 'eval', 1)}_{metric}_in_paper"
        if key in written:
            published[split, metric] = f"{written[key]:.3f}"
        elif paper is not None and paper[0] == metric:
            published[split, metric] = f"{paper[1] / 100:.3f}" if metric in _TASK_METRICS else f"{paper[1]:.1f}"
    return published


def draw_curve(log: list[dict[str, Any]], picture: Path) -> str | None:
    """
    Draws the losses in a trainer's log over the steps; a task's own above the auxiliary one, if it was logged apart.

    Returns:
        The picture's name; None where there is nothing to draw, or no matplotlib to draw with.
    """
    curves = (
        ("task_loss" if is_apart(log) else "loss", "training", 0),
        ("eval_loss", "validation", 0),
        ("lm_loss", "training", 1),
    )
    points = {key: [(entry["step"], entry[key]) for entry in log if key in entry] for key, _, _ in curves}
    if not any(len(curve) > 1 for curve in points.values()):
        return None
    panels = 2 if points["lm_loss"] else 1
    figure = new_figure(picture.name, figsize=(7, 2 + 2 * panels))
    if figure is None:
        return None
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for key, label, panel in curves:
        if curve := points[key]:
            axes[panel].plot(*zip(*curve, strict=True), marker="." if len(curve) < 30 else "", label=label)
    for panel, name in zip(axes, ("task loss", "auxiliary loss") if panels == 2 else ("loss",), strict=True):
        panel.set(ylabel=name)
        panel.grid(alpha=0.3)
        panel.legend()
    axes[-1].set(xlabel="step")
    save_figure(figure, picture)  # the same log gives the same bytes, and no new commit
    return picture.name


def is_apart(log: list[dict[str, Any]]) -> bool:
    """Whether a log holds a task's loss apart from the auxiliary one."""
    return any("task_loss" in entry for entry in log)


def _shape(config: dict[str, Any]) -> str:
    layers, width, heads = (next(filter(None, map(config.get, SHAPE[word]))) for word in ("layers", "wide", "heads"))
    return f"{layers} layer{'s' * (layers > 1)}, {width} wide, {heads} head{'s' * (heads > 1)}"


def _origin(facts: Facts, base_model: str | None) -> str:
    if base_model:
        return f"Fine-tuned from [{base_model}](https://huggingface.co/{base_model})."
    if facts.base_model:  # a directory: where it lies on somebody's disk is nobody's business
        return f"Fine-tuned from {code(Path(facts.base_model).name)}, which is not on the Hub."
    return "Trained from scratch." if facts.task or facts.corpus else "What it was trained from is unknown."


def _data(facts: Facts, dataset: str | None, escape: Callable[[str], str] = str) -> str:
    """What the model was trained on; in Markdown if names are escaped for it."""
    link = f"[{dataset}](https://huggingface.co/datasets/{dataset})" if dataset else None
    task = facts.task and escape(facts.task)
    task = f"files of one's own, for the task {task}" if task and not dataset else task
    return ", ".join(part for part in (link, task, facts.corpus and escape(facts.corpus)) if part) or "unknown"


def _hub_id(name: str | None) -> str | None:
    """The name, if it can be a repository on the Hub; a directory cannot."""
    if name is None or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name
