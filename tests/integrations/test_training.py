"""Libraries that train or change a model: TRL, sentence-transformers, SetFit, torchao."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_gpt1 import GPT1ForCausalLM
from tokenization import GPT1Tokenizer


def test_trl_fine_tunes_with_its_defaults(checkpoint, tmp_path):
    """Prompts and completions: TRL ends each with the end token, which the model learns to generate."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    data = Dataset.from_dict({"prompt": ["it was a fine"] * 8, "completion": [" day ."] * 8})
    arguments = trl.SFTConfig(
        tmp_path, max_steps=40, learning_rate=0.01, report_to="none", use_cpu=True, bf16=False, save_strategy="no"
    )
    trainer = trl.SFTTrainer(model=checkpoint, train_dataset=data, args=arguments)
    trainer.train()
    trainer.save_model()
    tokenizer = GPT1Tokenizer.from_pretrained(tmp_path)
    model = GPT1ForCausalLM.from_pretrained(tmp_path)
    ids = tokenizer("it was a fine", return_tensors="pt")["input_ids"]
    generated = model.generate(ids, max_new_tokens=30, do_sample=False)
    assert tokenizer.decode(generated[0]).split() == ["it", "was", "a", "fine", "day.", "_classify_"]


def test_trl_fine_tunes_on_plain_text(checkpoint, tmp_path):
    trl = pytest.importorskip("trl", reason="trl is not installed")
    data = Dataset.from_dict({"text": ["it was a fine day and the cat sat ."] * 8})
    arguments = trl.SFTConfig(tmp_path, max_steps=2, report_to="none", use_cpu=True, bf16=False, save_strategy="no")
    trainer = trl.SFTTrainer(model=checkpoint, train_dataset=data, args=arguments)
    trainer.train()
    losses = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    assert len(losses) == 1 and np.isfinite(losses[0])


@pytest.fixture
def sentences(checkpoint):
    """A sentence-transformers model: the decoder and a mean over its tokens."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    models = pytest.importorskip("sentence_transformers.models", reason="sentence-transformers is not installed")
    transformer, pooling = models.Transformer(checkpoint), models.Pooling(32, "mean")
    return library.SentenceTransformer(modules=[transformer, pooling], device="cpu")


TEXTS = ["the cat", "it was a fine day and all was well"]


def test_sentence_transformers(sentences, checkpoint, tmp_path):
    embeddings = sentences.encode(TEXTS, batch_size=2)
    tokenizer, model = GPT1Tokenizer(), GPT1ForCausalLM.from_pretrained(checkpoint).model
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(embedding, states[0].mean(0).detach(), atol=1e-5)
    sentences.save(str(tmp_path))
    program = (
        "import sys, numpy, modeling_gpt1\nfrom sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu')\nnumpy.save(sys.argv[2], model.encode(sys.argv[3:]))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path, tmp_path / "again.npy", *TEXTS], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), embeddings, atol=1e-5)


def test_setfit(sentences, tmp_path):
    setfit = pytest.importorskip("setfit", reason="setfit is not installed")
    sentences.save(str(tmp_path / "sentences"))
    model = setfit.SetFitModel.from_pretrained(str(tmp_path / "sentences"))
    data = Dataset.from_dict({"text": ["a fine day", "a bad night"] * 2, "label": [1, 0] * 2})
    arguments = setfit.TrainingArguments(output_dir=str(tmp_path), max_steps=2, report_to="none")
    setfit.Trainer(model=model, args=arguments, train_dataset=data).train()
    assert [int(label) for label in model.predict(["a fine day", "a bad night"])] == [1, 0]


def test_torchao_8_bit_weights(checkpoint):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = GPT1ForCausalLM.from_pretrained(checkpoint).eval()
    ids = torch.randint(1, 90, (2, 9))
    expected = model(ids, labels=ids)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    got = model(ids, labels=ids)
    assert 0 < (got.logits - expected.logits).std() < 0.05 * expected.logits.std()
    torch.testing.assert_close(got.loss, expected.loss, atol=0.02, rtol=0.02)
    assert model.generate(ids, max_new_tokens=3).shape == (2, 12)
