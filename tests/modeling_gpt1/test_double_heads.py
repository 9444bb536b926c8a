"""GPT1DoubleHeadsModel beside OpenAIGPTDoubleHeadsModel: the same call, the same answers on the same weights."""

import json

import pytest
import torch
import transformers
from transformers import OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel

from modeling_gpt1 import GPT1_MINI, GPT1DoubleHeadsModel, GPT1ForCausalLM, GPT1ForMultipleChoice, GPT1Model
from modeling_gpt1.convert import to_openai_gpt
from modeling_gpt1.openai_gpt import from_openai_gpt
from tokenization import GPT1Tokenizer


BATCH, CHOICES, LENGTH, VOCABULARY = 2, 3, 9, 60

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def peer(spread, tmp_path):
    config = OpenAIGPTConfig(vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = spread(OpenAIGPTDoubleHeadsModel(config)).double().eval()
    model.save_pretrained(tmp_path / "peer")
    return model


@pytest.fixture
def ours(peer, tmp_path):
    return GPT1DoubleHeadsModel.from_pretrained(tmp_path / "peer").double().eval()


@pytest.fixture
def inputs():
    def draw(high=VOCABULARY):
        return torch.randint(high, (BATCH, CHOICES, LENGTH))

    labels = draw().masked_fill(torch.rand(BATCH, CHOICES, LENGTH) < 0.4, -100)
    return {
        "input_ids": draw(),
        "token_type_ids": draw(),
        "mc_token_ids": torch.randint(LENGTH, (BATCH, CHOICES)),
        "labels": labels,
        "mc_labels": torch.randint(CHOICES, (BATCH,)),
    }


@pytest.mark.parametrize(
    "left_out", [(), ("token_type_ids",), ("mc_token_ids",), ("labels",), ("mc_labels", "labels")]
)
def test_the_same_call_gives_the_same_answers(peer, ours, inputs, agree, left_out):
    inputs = {name: tensor for name, tensor in inputs.items() if name not in left_out}
    expected, got = peer(**inputs), ours(**inputs)
    assert list(got.keys()) == list(expected.keys())
    for name, value in expected.items():
        agree(f"double heads: {name}", got[name], value)
    for a, b in zip(ours(**inputs, return_dict=False), peer(**inputs, return_dict=False), strict=True):
        agree("double heads: tuple", a, b)


def test_the_same_gradients(peer, ours, inputs, agree):
    for model in (peer, ours):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) or hasattr(module, "attention_dropout"):
                module.p = module.attention_dropout = 0.0
        for dropout in (module for module in model.modules() if type(module).__name__ == "GPT1Dropout"):
            dropout.p = 0.0
        outputs = model(**inputs)
        (2 * outputs.loss + outputs.mc_loss).backward()
    gradients = from_openai_gpt({name: parameter.grad for name, parameter in peer.named_parameters()})
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        agree("double heads: gradients", parameter.grad, gradients[name])


def test_masked_rows_are_those_without_their_padding(ours, inputs, agree):
    inputs.pop("mc_token_ids")
    whole = ours(**inputs)
    for left in (True, False):
        padded = {}
        for name, value in (("input_ids", 0), ("token_type_ids", 0), ("labels", -100)):
            sides = (3, 0) if left else (0, 3)
            padded[name] = torch.nn.functional.pad(inputs[name], sides, value=value)
        padded["attention_mask"] = torch.nn.functional.pad(torch.ones_like(inputs["input_ids"]), sides)
        got = ours(**padded, mc_labels=inputs["mc_labels"])
        kept = slice(3, None) if left else slice(LENGTH)
        agree("double heads, padded: logits", got.logits[:, :, kept], whole.logits)
        agree("double heads, padded: mc_logits", got.mc_logits, whole.mc_logits)
        agree("double heads, padded: loss", got.loss, whole.loss)


def test_its_checkpoint_serves_as_language_model_and_as_choice(tiny_config, spread, tmp_path, agree):
    model = spread(GPT1DoubleHeadsModel(tiny_config())).double().train()
    ids = torch.randint(1, 96, (2, 3, 8))
    ids[..., -1] = model.config.eos_token_id
    model(ids, labels=ids).loss.backward()  # it learns that its texts end
    model.eval().save_pretrained(tmp_path)
    outputs = model(ids)
    served = GPT1ForCausalLM.from_pretrained(tmp_path)
    agree("double heads served", served(ids[0]).logits, outputs.logits[0])
    assert served.config.eos_token_id not in served.generation_config.suppress_tokens
    assert served.generate(ids[0, :, :3], max_new_tokens=4, min_new_tokens=4).shape == (3, 7)
    chooser, info = GPT1ForMultipleChoice.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    agree("double heads choose", chooser(ids).logits, outputs.mc_logits)
    _, info = GPT1Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["GPT1DoubleHeadsModel"]
    assert type(transformers.AutoModelForPreTraining.from_pretrained(tmp_path)) is GPT1DoubleHeadsModel
    assert type(transformers.AutoModelForPreTraining.from_pretrained(GPT1_MINI)) is GPT1ForCausalLM
    peer = to_openai_gpt(model).double().eval()
    assert isinstance(peer, OpenAIGPTDoubleHeadsModel)
    agree("double heads in openai-gpt", peer(ids).mc_logits, outputs.mc_logits)


def test_an_output_layer_of_its_own_goes_along(tiny_config, spread, agree):
    model = spread(GPT1DoubleHeadsModel(tiny_config(tie_word_embeddings=False))).double().eval()
    ids = torch.randint(1, 96, (2, 3, 8))
    agree("untied double heads", to_openai_gpt(model).double().eval()(ids).logits, model(ids).logits)


def test_dialogue_code_runs_after_a_change_of_its_import(tmp_path):
    """The steps of openai-gpt's own example: a token added, the embedding resized, two choices, two heads."""
    tokenizer = GPT1Tokenizer()
    config = transformers.AutoConfig.for_model("gpt1", vocab_size=len(tokenizer), hidden_size=12, num_hidden_layers=1)
    model = GPT1DoubleHeadsModel(config)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<speaker1>", "<speaker2>"]})
    model.resize_token_embeddings(len(tokenizer))
    choices = ["hello, my dog is cute _classify_", "hello, my cat is cute _classify_"]
    input_ids = torch.tensor([tokenizer.encode(s) for s in choices]).unsqueeze(0)
    mc_token_ids = torch.tensor([input_ids.size(-1) - 1, input_ids.size(-1) - 1]).unsqueeze(0)
    lm_loss, mc_loss, lm_logits, mc_logits, *_ = model(
        input_ids, mc_token_ids=mc_token_ids, labels=input_ids, mc_labels=torch.tensor([1]), return_dict=False
    )
    (lm_loss + mc_loss).backward()
    assert lm_logits.shape == (*input_ids.shape, len(tokenizer)) and mc_logits.shape == (1, 2)
    with pytest.raises(ValueError, match=r"GPT1DoubleHeadsModel takes input_ids of shape \(batch, choices, length\)"):
        model(input_ids[0])
