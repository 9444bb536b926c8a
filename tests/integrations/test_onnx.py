"""torch.onnx.export of every head, with the batch and the length left open, run in onnxruntime."""

import pytest
import torch
from torch.export import Dim

from modeling_gpt1 import GPT1DoubleHeadsModel, GPT1ForCausalLM, GPT1ForMultipleChoice, GPT1Model


pytest.importorskip("onnxscript", reason="onnxscript is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Logits(torch.nn.Module):
    """A head's first output, by ids and mask alone."""

    def __init__(self, model, options):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask, **self.options)[0]


def draw(head, batch, length):
    """Rows `start A delimiter B extract` with padding at their ends, and their mask."""
    shape = (batch, 2, length) if head in (GPT1ForMultipleChoice, GPT1DoubleHeadsModel) else (batch, length)
    ids = torch.randint(1, 90, shape)
    ids[..., 3], ids[..., -3:] = 97, 98
    mask = torch.ones_like(ids)
    mask[0, ..., -2:] = 0
    return ids, mask


def test_every_head_runs_in_onnxruntime(tiny_config, auto_classes, tmp_path):
    for head in auto_classes:
        model = head(tiny_config(num_labels=3, num_hidden_layers=1)).eval()
        module = Logits(model, {"use_cache": False} if head in (GPT1Model, GPT1ForCausalLM) else {})
        example = draw(head, 3, 9)
        open_dims = dict.fromkeys(range(example[0].ndim), Dim.DYNAMIC)
        path = tmp_path / f"{head.__name__}.onnx"
        torch.onnx.export(module, example, path, dynamo=True, dynamic_shapes=(open_dims, open_dims), verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [field.name for field in session.get_inputs()]
        for batch, length in ((3, 9), (5, 13), (1, 33)):
            ids, mask = draw(head, batch, length)
            (got,) = session.run(None, dict(zip(names, (ids.numpy(), mask.numpy()), strict=True)))
            got, expected = torch.from_numpy(got), module(ids, mask)
            if got.shape[-2] == length:
                got, expected = (values * mask[..., None] for values in (got, expected))
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
