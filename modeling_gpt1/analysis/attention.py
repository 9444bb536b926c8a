"""
Attention: what each head looks at in a text, and the simple pattern that tells it most from looking at all alike.

A pattern says for each token which of those up to it a head looks at. Its score is the mean attention that goes there,
over the tokens for which it says something of its own: "previous token" nothing of the second, whose previous token is
the first.

References:
1. Clark et al., What Does BERT Look At? (2019): the patterns.
2. Vig, A Multiscale Visualization of Attention (2019): the grid of heads.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from ..flags import GPT1_MINI, checkpoint
from ..loading import load_checkpoint
from ..modeling_gpt1 import GPT1Model
from .findings import Findings


EXAMPLE = '--text "The old man saw the sea, and the sea saw the old man."'
FEWEST, MOST = 4, 64  # tokens of a text: for a pattern to show, and for the picture to show it


@dataclass
class Arguments:
    """Show what each head of a model looks at in a text: the attention weights, and each head's main pattern."""

    text: str = field(metadata={"help": f"Of {FEWEST} to {MOST} tokens."})
    output_dir: str = field(metadata={"help": "Where attention.json, .md and .png are written."})
    model: str = field(
        default=GPT1_MINI,
        metadata={"help": "A checkpoint, with any head: a directory, a Hub id or gpt1-mini, the default."},
    )

    def __post_init__(self) -> None:
        self.model = checkpoint(self.model)


def analyze(args: Arguments) -> str:
    """
    Reads the text, unless `output_dir` has its attention already, and writes JSON, table and picture.

    Returns:
        `str`: the table, in Markdown.

    Raises:
        OSError: a model that is not there.
        ValueError: a text of too few or too many tokens, a model that sees what comes later, or `output_dir` with
            findings of other settings.
    """
    findings = Findings(args.output_dir, "attention", {"model": args.model, "text": args.text})
    read = findings.of("attention", lambda: _read(args))
    tokens, weights = read["tokens"], torch.tensor(read["weights"])
    scores = findings.of("patterns", lambda: pattern_scores(weights, tokens))
    main = main_patterns(scores)
    findings.picture(lambda figure: _draw(figure, tokens, weights, main))
    return findings.table(
        ("layer", "head", "main pattern", "attention", "a head's that looks at all alike"),
        (
            (layer + 1, head + 1, name, f"{scores[name]['scores'][layer][head]:.2f}", f"{scores[name]['alike']:.2f}")
            for layer, row in enumerate(main)
            for head, name in enumerate(row)
        ),
    )


@torch.inference_mode()
def _read(args: Arguments) -> dict[str, Any]:
    """The text's tokens, and the attention weights `(layers, heads, queries, keys)`, to four digits."""
    model, tokenizer = load_checkpoint(args.model, GPT1Model, "float32")
    if not model.config.is_causal:
        raise ValueError(f"{args.model} sees what comes later: the patterns are of models that read in one direction")
    ids = tokenizer(args.text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    most = min(MOST, model.config.max_position_embeddings)
    if not FEWEST <= len(ids) <= most:
        raise ValueError(f"--text must have {FEWEST} to {most} tokens, it has {len(ids)}")
    weights = torch.cat(model(torch.tensor([ids]), output_attentions=True).attentions)
    return {
        "tokens": tokenizer.convert_ids_to_tokens(ids),
        "weights": weights.double().numpy().round(4).tolist(),
    }


def patterns(tokens: list[str]) -> dict[str, torch.Tensor]:
    """
    What each pattern says of a text: where `(queries, keys)` a head looks. A token of which it says nothing has no
    key.
    """
    count = len(tokens)
    back = torch.arange(count)[:, None] - torch.arange(count)  # how far from a query back to a key
    past_second = (torch.arange(count) > 1)[:, None]
    same = torch.tensor([[query == key for key in tokens] for query in tokens])
    later = torch.arange(count)[:, None] > 0
    first = torch.zeros(count, count, dtype=torch.bool)
    first[:, 0] = True
    named = {
        "first token": first & past_second,
        "itself": (back == 0) & later,
        "previous token": (back == 1) & past_second,
        "same token before": same & (back > 0),
    }
    named |= {f"{k} tokens back": (back == k) & (back < torch.arange(count)[:, None]) for k in range(2, count // 2)}
    return {name: where for name, where in named.items() if where.any()}


def pattern_scores(weights: torch.Tensor, tokens: list[str]) -> dict[str, dict[str, Any]]:
    """
    Of each pattern, `scores` `(layers, heads)`, the mean attention that goes where it says, and `alike`, the same of a
    head that looks at all tokens alike.

    Args:
        weights (`torch.Tensor` of shape `(layers, heads, queries, keys)`): a model's attention to a text.
        tokens: the text's.
    """
    alike = torch.ones(len(tokens), len(tokens)).tril()
    alike /= alike.sum(1, keepdim=True)
    found = {}
    for name, where in patterns(tokens).items():
        told = where.any(1)
        scores, of_alike = ((each * where).sum(-1)[..., told].mean(-1) for each in (weights, alike))
        found[name] = {"scores": scores.tolist(), "alike": of_alike.item()}
    return found


def main_patterns(scores: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Each head's pattern, by layers: where its score is farthest above that of a head that looks at all alike."""
    names = list(scores)
    excess = [torch.tensor(each["scores"]) - each["alike"] for each in scores.values()]
    best = torch.stack(excess).argmax(0)  # (layers, heads)
    return [[names[index] for index in row] for row in best.tolist()]


def _draw(figure: Any, tokens: list[str], weights: torch.Tensor, main: list[list[str]]) -> None:
    """Layers downwards and heads across, in each panel the queries downwards and the keys across."""
    layers, heads = weights.shape[:2]
    side = max(1.7, 0.07 * len(tokens))
    figure.set_size_inches(side * heads + 1.5, (side + 0.25) * layers + 1)
    panels = figure.subplots(layers, heads, squeeze=False)
    for layer, row in enumerate(panels):
        for head, axes in enumerate(row):
            image = axes.imshow(weights[layer, head].numpy(), vmin=0, vmax=1)
            axes.set_title(f"{layer + 1}.{head + 1} {main[layer][head]}", fontsize=7)
            axes.set(xticks=[], yticks=[])
    tokens = [token.replace("</w>", "") for token in tokens]
    for axes in panels[-1]:
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=4, parse_math=False)
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(tokens)), tokens, fontsize=4, parse_math=False)
    figure.supxlabel("the token that is looked at")
    figure.supylabel("from the token")
    figure.colorbar(image, ax=panels, label="attention", shrink=0.5)
