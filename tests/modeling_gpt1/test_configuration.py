import json

import pytest
from transformers import AutoConfig, OpenAIGPTConfig

from modeling_gpt1 import GPT1Config, GPT1Model
from tokenization import GPT1Tokenizer


def test_defaults_are_the_papers_model():
    config = GPT1Config()
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (12, 768, 12)
    assert (config.intermediate_size, config.max_position_embeddings) == (3072, 512)
    dropouts = config.hidden_dropout, config.embedding_dropout, config.attention_dropout, config.classifier_dropout
    assert dropouts == (0.1, 0.1, 0.1, 0.1)
    assert (config.hidden_act, config.layer_norm_eps, config.initializer_range) == ("gelu_pytorch_tanh", 1e-5, 0.02)
    assert (config.lm_coef, config.model_type) == (0.5, "gpt1")


def test_vocabulary_is_the_packaged_tokenizers():
    config, tokenizer = GPT1Config(), GPT1Tokenizer()
    assert config.vocab_size == len(tokenizer)
    for name in ("unk", "bos", "sep", "cls", "pad"):
        assert getattr(config, f"{name}_token_id") == getattr(tokenizer, f"{name}_token_id"), name


def test_gpt_names_are_aliases():
    config = GPT1Config(n_embd=64, n_layer=2, n_head=4, n_positions=32, resid_pdrop=0.2)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (64, 2, 4)
    assert (config.max_position_embeddings, config.hidden_dropout) == (32, 0.2)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (64, 2, 4, 32)


def test_special_tokens_are_the_vocabularys_last_unless_told():
    config = GPT1Config(vocab_size=50)
    assert [config.bos_token_id, config.sep_token_id, config.cls_token_id, config.pad_token_id] == [46, 47, 48, 49]
    config = GPT1Config(vocab_size=50, sep_token_id=None, pad_token_id=3)
    assert (config.sep_token_id, config.pad_token_id, config.bos_token_id) == (None, 3, 46)


def test_survives_saving(tmp_path):
    config = GPT1Config(vocab_size=77, sep_token_id=None, lm_coef=0.25, attention_window=8, norm_position="pre")
    config.save_pretrained(tmp_path)
    for loaded in (GPT1Config.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is GPT1Config
        assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"]["AutoModel"] == "modeling_gpt1.GPT1Model"


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, "multiple of num_attention_heads"),
        ({"num_hidden_layers": "twelve"}, "num_hidden_layers"),
        ({"hidden_dropout": 1.5}, "between 0 and 1"),
        ({"vocab_size": 0}, "at least 1"),
        ({"attention_window": 0}, "at least 1"),
        ({"norm_position": "middle"}, "norm_position"),
    ],
)
def test_refuses_what_no_model_can_have(wrong, message):
    with pytest.raises(Exception, match=message):
        GPT1Config(**wrong)


def test_reads_an_openai_gpt_configuration(tmp_path):
    OpenAIGPTConfig(vocab_size=90, n_embd=24, n_layer=2, n_head=3, n_positions=40, attn_pdrop=0.3).save_pretrained(
        tmp_path
    )
    config = GPT1Config.from_pretrained(tmp_path)
    assert (config.hidden_size, config.intermediate_size, config.max_position_embeddings) == (24, 96, 40)
    assert (config.attention_dropout, config.hidden_act) == (0.3, "gelu_pytorch_tanh")
    assert config.sep_token_id is None and config.pad_token_id is None
    assert sum(parameter.numel() for parameter in GPT1Model(config).parameters()) == 17_568
