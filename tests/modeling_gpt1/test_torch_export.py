"""torch.export of every head, with the batch, the choices and the length left open."""

import pytest
import torch
from torch.export import Dim

from modeling_gpt1 import (
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForMultipleChoice,
    GPT1ForSimilarity,
    GPT1Model,
)


CHOICES = (GPT1ForMultipleChoice, GPT1DoubleHeadsModel)


def draw(head, batch, length):
    """Rows `start A delimiter B extract`, two per choice where the head takes some; padding on both sides."""
    shape = (batch, 2, length) if head in CHOICES else (batch, length)
    ids = torch.randint(1, 90, shape)
    ids[..., 3], ids[..., -3:] = 97, 98
    mask = torch.ones_like(ids)
    mask[0, ..., -2:] = 0
    mask[1, ..., :1] = 0
    return ids, mask


@pytest.mark.parametrize("with_mask", [True, False])
def test_an_exported_head_takes_any_batch_and_length(tiny_config, auto_classes, with_mask):
    for head in auto_classes if with_mask else (GPT1ForCausalLM, GPT1ForSimilarity, GPT1ForMultipleChoice):
        model = head(tiny_config(num_labels=3, num_hidden_layers=1)).eval()
        options = {"use_cache": False} if head in (GPT1Model, GPT1ForCausalLM) else {}

        def inputs(batch, length, head=head):
            names = ("input_ids", "attention_mask") if with_mask else ("input_ids",)
            return dict(zip(names, draw(head, batch, length), strict=False))

        example = inputs(3, 9)
        open_dims = dict.fromkeys(range(example["input_ids"].ndim), Dim.DYNAMIC)
        shapes = dict.fromkeys(example, open_dims) | dict.fromkeys(options)
        exported = torch.export.export(model, (), example | options, dynamic_shapes=shapes, strict=False).module()
        for batch, length in ((3, 9), (5, 13), (2, 64)):
            given = inputs(batch, length)
            got, expected = exported(**given, **options)[0], model(**given, **options)[0]
            if got.shape[-2] == length:  # what is at padding means nothing
                padding = (given["attention_mask"] == 0) if with_mask else torch.zeros_like(given["input_ids"]).bool()
                got, expected = (values.masked_fill(padding[..., None], 0) for values in (got, expected))
            torch.testing.assert_close(got, expected, msg=lambda text, head=head: f"{head.__name__}: {text}")
