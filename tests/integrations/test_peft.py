"""Adapters of PEFT: without naming modules, for language models and task heads, saved and loaded again."""

import copy

import pytest
import torch
from transformers import DynamicCache, OpenAIGPTConfig, OpenAIGPTLMHeadModel

from modeling_gpt1 import (
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)


peft = pytest.importorskip("peft", reason="peft is not installed")

PAIR = [96, 5, 6, 97, 7, 8, 9, 98]  # start A delimiter B extract, in the tiny vocabulary


@pytest.fixture
def ids():
    return torch.tensor([PAIR, [96, 9, 97, 5, 5, 5, 5, 98]])


def trained(model, steps=3, **inputs):
    """The model after a few steps; it has to have changed."""
    before = {
        name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    assert any(
        not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters() if name in before
    )
    return model.eval()


@pytest.mark.parametrize(
    "method", ["LoraConfig", "IA3Config", "AdaLoraConfig", "LoHaConfig", "OFTConfig", "LNTuningConfig"]
)
def test_methods_find_the_modules_by_themselves(tiny_config, ids, method):
    options = {"total_step": 10} if method == "AdaLoraConfig" else {}
    base = GPT1ForCausalLM(tiny_config())
    model = peft.get_peft_model(base, getattr(peft, method)(task_type="CAUSAL_LM", **options))
    assert 0 < model.get_nb_trainable_parameters()[0] < base.num_parameters()
    trained(model, input_ids=ids, labels=ids)


@pytest.mark.parametrize("head", [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity])
@pytest.mark.parametrize("method", ["LoraConfig", "PrefixTuningConfig", "PromptTuningConfig"])
def test_a_classifier_is_adapted_saved_and_loaded(tiny_config, ids, tmp_path, head, method):
    if head is GPT1ForSimilarity and method == "PromptTuningConfig":
        pytest.skip("prompt tuning passes embeddings, which similarity cannot reorder")
    base = head(tiny_config(num_labels=3))
    base.save_pretrained(tmp_path / "base")
    options = {} if method == "LoraConfig" else {"num_virtual_tokens": 4}
    model = peft.get_peft_model(copy.deepcopy(base), getattr(peft, method)(task_type="SEQ_CLS", **options))
    mask = torch.ones_like(ids)
    trained(model, input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 2]))
    expected = model(input_ids=ids, attention_mask=mask).logits
    assert not torch.allclose(expected, base.eval()(ids).logits, atol=1e-4)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(head.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(input_ids=ids, attention_mask=mask).logits, expected)


def test_lora_merges_into_a_model_that_generates_the_same(tiny_config, ids, tmp_path):
    base = GPT1ForCausalLM(tiny_config())
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)).eval()
    expected = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    model.save_pretrained(tmp_path)
    assert model.merge_and_unload().generate(ids, max_new_tokens=8, do_sample=False).tolist() == expected.tolist()


def test_an_adapter_of_an_openai_gpt_checkpoint_is_loaded_after_it(ids, tmp_path):
    """Not onto fresh weights, which is what its own folder would lead to."""
    config = OpenAIGPTConfig(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4)
    OpenAIGPTLMHeadModel(config).save_pretrained(tmp_path / "base")
    lora = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(GPT1ForCausalLM.from_pretrained(tmp_path / "base"), lora).eval()
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="load that first, and then the adapter"):
        GPT1ForCausalLM.from_pretrained(tmp_path / "adapter")
    again = GPT1ForCausalLM.from_pretrained(tmp_path / "base")
    again.load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits)


def test_lora_of_a_multiple_choice(tiny_config, ids):
    model = peft.get_peft_model(GPT1ForMultipleChoice(tiny_config()), peft.LoraConfig(modules_to_save=["score"]))
    trained(model, input_ids=ids[None], labels=torch.tensor([1]))


@pytest.mark.parametrize("head", [GPT1ForSequenceClassification, GPT1ForSimilarity])
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_head_after_a_past_is_the_head_of_the_whole(tiny_config, spread, ids, head, with_mask, name):
    """What prefix tuning needs: keys and values of tokens before the head's own, by either of their names."""
    model = spread(head(tiny_config(num_labels=3))).double().eval()
    prefix = torch.tensor([[11, 12, 13], [14, 15, 16]])
    rows = torch.nn.functional.pad(ids, (0, 2), value=99)
    past = model.model(prefix, use_cache=True).past_key_values
    mask = torch.cat((torch.ones_like(prefix), (rows != 99).long()), 1) if with_mask else None
    got = model(rows, attention_mask=mask, **{name: past}).logits
    if head is GPT1ForSequenceClassification:
        torch.testing.assert_close(got, model(torch.cat((prefix, rows), 1)).logits)
    else:
        orders = ids, torch.tensor([[96, 7, 8, 9, 97, 5, 6, 98], [96, 5, 5, 5, 5, 97, 9, 98]])
        states = [model.model(torch.cat((prefix, order), 1)).last_hidden_state[:, -1] for order in orders]
        torch.testing.assert_close(got, model.score(states[0] + states[1]))
    assert isinstance(past, DynamicCache)
