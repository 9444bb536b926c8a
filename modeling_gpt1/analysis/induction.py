"""
Induction, or in-context copying: whether a model finds again what it has read.

A sequence of random tokens is said twice. Nothing but the first time can foretell the second: a model that copies has
a loss near 0 there, one that does not the same loss twice. A head that copies looks from a token to the one that came
after the same token before.

References:
1. Olsson et al., In-context Learning and Induction Heads (2022): the figure, and the heads' prefix-matching score.
2. Elhage et al., A Mathematical Framework for Transformer Circuits (2021).
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ..flags import GPT1_MINI, check_flags, checkpoint
from ..generation_gpt1 import special_token_ids
from ..loading import load_checkpoint_model, load_config
from ..modeling_gpt1 import GPT1ForCausalLM
from ..processor import device_for
from .findings import Findings, short_name


EXAMPLE = "--model gpt1-mini"


@dataclass
class Arguments:
    """Measure how well language models copy: their losses on random tokens said twice, and each head's part in it."""

    output_dir: str = field(metadata={"help": "Where induction.json, .md and .png are written."})
    model: list[str] = field(
        default_factory=lambda: [GPT1_MINI],
        metadata={"help": "One or more language models: directories, Hub ids or gpt1-mini, the default."},
    )
    length: int = field(default=128, metadata={"help": "Random tokens, which are then repeated."})
    sequences: int = field(default=64, metadata={"help": "How many sequences of them."})
    batch_size: int = field(default=8, metadata={"help": "Sequences at a time."})
    seed: int = field(default=0, metadata={"help": "Of the random tokens."})

    def __post_init__(self) -> None:
        self.model = [checkpoint(name) for name in self.model]
        least = {"length": 2, "sequences": 1, "batch_size": 1}
        check_flags(self, **{name: (getattr(self, name) >= n, f"at least {n}") for name, n in least.items()})


def analyze(args: Arguments) -> str:
    """
    Measures each of the models that `output_dir` has no figures of yet, and writes JSON, table and picture, with those
    of earlier calls.

    Returns:
        `str`: the table, in Markdown.

    Raises:
        OSError: a model that is not there.
        ValueError: sequences longer than a model takes, or `output_dir` with findings of other settings.
    """
    how = {name: getattr(args, name) for name in ("length", "sequences", "seed")}
    findings = Findings(args.output_dir, "induction", how)
    for name in args.model:
        findings.of(name, partial(_measure, name, args))
    findings.picture(lambda figure: _draw(figure, findings.found))
    return findings.table(
        ("model", "first time, nats", "second time, nats", "best head's score", "a head's that looks at all alike"),
        (
            (
                short_name(name),
                f"{found['first_loss']:.2f}",
                f"{found['second_loss']:.2f}",
                f"{max(map(max, found['scores'])):.3f}",
                f"{found['uniform_score']:.3f}",
            )
            for name, found in findings.found.items()
        ),
    )


def _draw(figure: Any, measured: dict[str, dict[str, Any]]) -> None:
    """A model's scores beside another's, layers downwards and heads across."""
    figure.set_size_inches(4 * len(measured), 4)
    panels = figure.subplots(1, len(measured), squeeze=False)[0]
    for axes, (name, found) in zip(panels, measured.items(), strict=True):
        image = axes.imshow(found["scores"], vmin=0, vmax=1)
        losses = f"{found['first_loss']:.2f} to {found['second_loss']:.2f} nats"
        axes.set(xlabel="head", ylabel="layer", title=f"{short_name(name)}\n{losses}")
        axes.set_xticks(range(len(found["scores"][0])), range(1, len(found["scores"][0]) + 1))
        axes.set_yticks(range(len(found["scores"])), range(1, len(found["scores"]) + 1))
    figure.colorbar(image, ax=panels, label="induction score")


def _measure(name: str, args: Arguments) -> dict[str, Any]:
    limit = load_config(name).max_position_embeddings // 2
    if args.length > limit:
        raise ValueError(f"--length must be at most {limit} for {name}, got {args.length}")
    model = load_checkpoint_model(name, GPT1ForCausalLM, dtype="float32")
    return measure(model.to(device_for()), args.length, args.sequences, args.batch_size, args.seed)


@torch.inference_mode()
def measure(
    model: GPT1ForCausalLM, length: int = 128, sequences: int = 64, batch_size: int = 8, seed: int = 0
) -> dict[str, Any]:
    """
    The figures of one model.

    Args:
        model: a language model in evaluation mode.
        length, sequences: how many random tokens are said twice, and how often.
        batch_size: sequences at a time.
        seed: of the tokens, drawn alike from all but the special ones.

    Returns:
        `dict`: `first_loss` and `second_loss`, the mean losses in nats of the tokens but the first of the sequence,
        when they are said for the first and for the second time; `scores`, `(layers, heads)`, the mean attention of
        each head from a token said again to the one that came after it (reference 1); `uniform_score`, the same of a
        head that looks at all alike.
    """
    ids = random_tokens(model, sequences, length, seed)
    losses, scores = [], []
    for batch in torch.cat((ids, ids), dim=1).to(model.device).split(batch_size):
        output = model(batch, output_attentions=True)
        logits = output.logits[:, :-1].transpose(1, 2)  # (batch, vocab_size, 2 * length - 1)
        losses.append(F.cross_entropy(logits, batch[:, 1:], reduction="none"))
        attention = torch.stack(output.attentions, dim=1)  # (batch, layers, heads, queries, keys)
        # from the query at length + i to the key at i + 1
        scores.append(attention[..., length : 2 * length - 1, :].diagonal(1, dim1=-2, dim2=-1).mean(-1))
    of_token = torch.cat(losses).mean(0)
    return {
        "first_loss": of_token[: length - 1].mean().item(),
        "second_loss": of_token[length:].mean().item(),
        "scores": torch.cat(scores).mean(0).tolist(),
        "uniform_score": sum(1 / (length + i + 1) for i in range(length - 1)) / (length - 1),
    }


def random_tokens(model: GPT1ForCausalLM, sequences: int, length: int, seed: int) -> torch.Tensor:
    """Tokens drawn alike from all but the special ones: `(sequences, length)`."""
    config = model.config
    special = special_token_ids(config)
    ordinary = torch.tensor([token for token in range(config.vocab_size) if token not in special])
    generator = torch.Generator().manual_seed(seed)
    return ordinary[torch.randint(len(ordinary), (sequences, length), generator=generator)]
