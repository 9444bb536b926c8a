"""
Transfer: what a task gains from each pre-trained layer (paper, section 5 and figure 2, left).

The embeddings, or these and the first layers, are the checkpoint's; the rest is drawn anew, and the whole is
fine-tuned.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..loading import load_config
from ..modeling_gpt1 import GPT1Model, GPT1TaskModel
from .findings import Findings
from .fine_tuned import Measured, Variant, VariantArguments, measure, units


EXAMPLE = "--task sst2 --train_file train.csv --validation_file validation.csv"


@dataclass
class Arguments(VariantArguments):
    """Fine-tune a task from nothing, from a checkpoint's embeddings, and from more and more of its layers."""

    transferred: list[str] | None = field(
        default=None,
        metadata={
            "help": "Which variants: nothing, embeddings, or how many of the first layers, with the embeddings; all "
            "if not given."
        },
    )


def analyze(args: Arguments) -> str:
    """
    Fine-tunes each of the variants that `output_dir` has no figure of yet, and writes JSON, table and picture.

    Returns:
        `str`: the table, in Markdown.

    Raises:
        ValueError: more layers than the checkpoint has; and what [`measure`] raises.
    """
    assert args.model is not None  # or the arguments are refused
    everything = names_of(load_config(args.model).num_hidden_layers)
    chosen = args.transferred or everything
    if wrong := [name for name in chosen if name not in everything]:
        raise ValueError(f"--transferred takes nothing, embeddings or 1 to {everything[-1]}, not {wrong[0]}")
    variants: dict[str, Variant] = {name: partial(keep, transferred=name) for name in everything if name in chosen}
    findings, measured = measure(args, "transfer", variants)
    shown = [name for name in everything if any(name in each.values for each in measured.values())]
    _draw(findings, shown, measured)
    return findings.table(
        ("layers transferred", *(f"{task}, {each.metric}" for task, each in measured.items())),
        ((name, *(each.cell(name) for each in measured.values())) for name in shown),
    )


def names_of(layers: int) -> list[str]:
    """The variants of a checkpoint of so many layers, from the least to the most that is transferred."""
    return ["nothing", "embeddings", *map(str, range(1, layers + 1))]


def keep(model: GPT1TaskModel, transferred: str) -> None:
    """Leaves what is `transferred`, one of [`names_of`], as it was loaded, and draws the rest of the decoder anew."""
    count = int(transferred) if transferred.isdecimal() else 0
    kept = [f"layers.{index}." for index in range(count)]
    if transferred != "nothing":
        kept += ["embed_tokens.", "embed_positions."]
    if count == model.config.num_hidden_layers:
        kept.append("norm.")  # the last layer's, where norms come first
    fresh = GPT1Model(model.config).state_dict()
    drawn = {name: tensor for name, tensor in fresh.items() if not name.startswith(tuple(kept))}
    model.model.load_state_dict(drawn, strict=False)


def _draw(findings: Findings, names: list[str], measured: dict[str, Measured]) -> None:
    def draw(figure: Any) -> None:
        figure.set_size_inches(7, 4.5)
        axes = figure.subplots()
        for task, each in measured.items():
            middle = [each.median(name) for name in names]
            spread = list(zip(*(each.range(name) for name in names), strict=True))
            axes.errorbar(range(len(names)), middle, spread, marker="o", label=f"{task}, {each.metric}")
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel="layers transferred", ylabel=units(measured))
        axes.grid(alpha=0.3)
        axes.legend()

    findings.picture(draw)
