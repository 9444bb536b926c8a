"""
Ablation: what pre-training, the auxiliary loss and the transformer are worth on a task (paper, section 5 and table 5).

The paper's LSTM, one layer of 2,048 units, was pre-trained as its transformer was. The one here is trained on the task
alone, with the auxiliary loss: it stands beside the transformer without pre-training.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from ..configuration_gpt1 import GPT1Config
from ..dropout_gpt1 import GPT1Dropout
from ..flags import check_flags
from ..losses_gpt1 import GPT1ModelOutput
from ..modeling_gpt1 import GPT1TaskModel
from .findings import Findings
from .fine_tuned import Measured, Variant, VariantArguments, measure, units
from .transfer import keep


EXAMPLE = "--task sst2 --train_file train.csv --validation_file validation.csv"


@dataclass
class Arguments(VariantArguments):
    """Fine-tune a task in full, without auxiliary loss, without pre-training, and with an LSTM from scratch."""

    lstm_units: int = field(default=2048, metadata={"help": "Of the LSTM; the paper's has 2,048."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, lstm_units=(self.lstm_units >= 1, "at least 1"))

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"lstm_units": self.lstm_units}


def analyze(args: Arguments) -> str:
    """
    Fine-tunes each of the variants that `output_dir` has no figure of yet, and writes JSON, table and picture.

    Returns:
        `str`: the table, in Markdown.

    Raises:
        What [`measure`] raises.
    """
    variants: dict[str, Variant] = {
        "full": lambda model: None,
        "without pre-training": partial(keep, transferred="nothing"),
        "without auxiliary loss": without_auxiliary_loss,
        "LSTM without pre-training": partial(put_lstm, units=args.lstm_units),
    }
    findings, measured = measure(args, "ablation", variants)
    _draw(findings, list(variants), measured)
    return findings.table(
        ("", *(f"{task}, {each.metric}" for task, each in measured.items())),
        ((name, *(each.cell(name) for each in measured.values())) for name in variants),
    )


def without_auxiliary_loss(model: GPT1TaskModel) -> None:
    """Leaves the task's loss alone."""
    model.config.lm_coef = 1.0 if model.config.lm_loss_weighting == "convex" else 0.0


def put_lstm(model: GPT1TaskModel, units: int) -> None:
    """Puts a fresh LSTM in the place of the decoder, under the same head and with the same losses."""
    model.model = LSTMDecoder(model.config, units)
    # An LSTM reads its row from the beginning. A limited attention keeps a multiple choice from packing its rows.
    model.config.attention_window = model.config.max_position_embeddings


class LSTMDecoder(nn.Module):
    """
    One layer of an LSTM, as a decoder for the task heads: token embeddings, the LSTM, and a linear layer back to their
    width, in which the heads' classifier and the output layer, tied to the token embeddings, read it.

    Args:
        config ([`GPT1Config`]): vocabulary, width, dropout and initial values.
        units (`int`): of the LSTM.
    """

    def __init__(self, config: GPT1Config, units: int):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lstm = nn.LSTM(config.hidden_size, units, batch_first=True)
        self.out_proj = nn.Linear(units, config.hidden_size)
        self.embedding_dropout = GPT1Dropout(config.embedding_dropout)
        self.hidden_dropout = GPT1Dropout(config.hidden_dropout)
        nn.init.normal_(self.embed_tokens.weight, std=config.initializer_range)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *others: None, **kwargs: Any
    ) -> GPT1ModelOutput:
        """
        Args:
            input_ids, attention_mask (`torch.Tensor` of shape `(rows, length)`): padded on either side.

        Returns:
            [`GPT1ModelOutput`], `last_hidden_state` of shape `(rows, length, hidden_size)`.
        """
        first = attention_mask.int().argsort(dim=1, descending=True, stable=True)  # a row's tokens before its padding
        embedded = self.embed_tokens(input_ids.gather(1, first))
        states, _ = self.lstm(self.embedding_dropout(embedded))  # (rows, length, units)
        states = self.hidden_dropout(self.out_proj(states))
        back = first.argsort(dim=1)[..., None].expand_as(states)
        return GPT1ModelOutput(last_hidden_state=states.gather(1, back))


def _draw(findings: Findings, variants: list[str], measured: dict[str, Measured]) -> None:
    """A group of bars for each task."""

    def draw(figure: Any) -> None:
        figure.set_size_inches(3 + 1.6 * len(measured), 4.5)
        axes = figure.subplots()
        width = 0.8 / len(variants)
        for number, variant in enumerate(variants):
            places = [task + (number - (len(variants) - 1) / 2) * width for task in range(len(measured))]
            middle = [each.median(variant) for each in measured.values()]
            spread = list(zip(*(each.range(variant) for each in measured.values()), strict=True))
            axes.bar(places, middle, width, yerr=spread, label=variant)
        axes.set_xticks(range(len(measured)), [f"{task}\n{each.metric}" for task, each in measured.items()])
        axes.set(ylabel=units(measured))
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper center", ncols=2)

    findings.picture(draw)
