"""The end token: which it is, and that no special token is generated unless the model was taught to end a text."""

import copy
import json

import pytest
import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    GenerationConfig,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.generation import SuppressTokensLogitsProcessor

from modeling_gpt1 import GPT1_MINI, GPT1Config, GPT1ForCausalLM
from tokenization import GPT1Tokenizer


UNK, START, DELIMITER, EXTRACT, PAD = 0, 26, 27, 28, 29
SPECIAL = {UNK, START, DELIMITER, EXTRACT, PAD}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_config):
    return GPT1ForCausalLM(tiny_config(vocab_size=30, num_hidden_layers=1))


@pytest.fixture
def ends_at_once(model):
    """A model to which, after two tokens, only special tokens are likely, the end token most of all."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.model.embed_positions.weight.zero_()[2:, 0] = 10
        model.model.layers[0].mlp_norm.weight.zero_()[0] = 1
        for token in SPECIAL:
            model.lm_head.weight[token, 0] = 5.0 if token == EXTRACT else 4.0
    return model


STRATEGIES = [{"do_sample": True}, {"do_sample": False}, {"num_beams": 3}, {"num_beams": 3, "do_sample": True}]


@pytest.mark.parametrize("strategy", [*STRATEGIES, {"prompt_lookup_num_tokens": 2}])
def test_special_tokens_are_never_generated(ends_at_once, strategy):
    ids = torch.randint(1, 26, (1, 5))
    generated = ends_at_once.generate(ids, max_new_tokens=40, **strategy)[:, 5:]
    assert generated.shape == (1, 40) and SPECIAL.isdisjoint(generated.flatten().tolist())


@pytest.mark.parametrize("as_config", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_call_that_names_the_end_token_ends_there(ends_at_once, strategy, as_config):
    ids = torch.randint(1, 26, (2, 5))
    wanted = strategy | {"max_new_tokens": 40, "eos_token_id": EXTRACT}
    if as_config:
        wanted = {"generation_config": GenerationConfig(**wanted)}
    generated = ends_at_once.generate(ids, **wanted)[:, 5:]
    assert (generated[:, -1] == EXTRACT).any() and generated.shape[1] < 40
    assert {UNK, START, DELIMITER}.isdisjoint(generated.flatten().tolist())


def test_a_copy_of_the_configuration_names_nothing(ends_at_once):
    config = copy.deepcopy(ends_at_once.generation_config)
    config.max_new_tokens = 10
    generated = ends_at_once.generate(torch.randint(1, 26, (1, 5)), generation_config=config)[0, 5:]
    assert len(generated) == 10 and SPECIAL.isdisjoint(generated.tolist())


def train(model, ids, steps=150):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        model.train()(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [[], [PAD], sorted(SPECIAL)])
def test_suppressed_scores_are_those_of_transformers(model, tokens, dtype):
    config = GenerationConfig(suppress_tokens=tokens)
    [processor] = model._get_logits_processor(config, input_ids_seq_length=1)
    scores = torch.randn(3, 30, dtype=dtype)
    expected = SuppressTokensLogitsProcessor(tokens)(torch.ones(3, 1), scores)
    torch.testing.assert_close(processor(torch.ones(3, 1), scores.clone()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("as_config", [False, True])
def test_a_call_may_force_the_end_token(model, as_config):
    ids = torch.randint(1, 26, (2, 5))
    wanted = {"forced_eos_token_id": EXTRACT, "max_new_tokens": 4}
    if as_config:
        wanted = {"generation_config": GenerationConfig(**wanted)}
    suppressed = list(model.generation_config.suppress_tokens)
    generated = model.generate(ids, do_sample=False, **wanted)[:, 5:]
    assert generated[:, -1].tolist() == [EXTRACT, EXTRACT]
    assert SPECIAL.isdisjoint(generated[:, :-1].flatten().tolist())
    assert model.generation_config.suppress_tokens == suppressed


def test_a_call_may_let_every_token_through(ends_at_once):
    ids = torch.randint(1, 26, (1, 5))
    assert ends_at_once.generate(ids, max_new_tokens=5, suppress_tokens=[])[0, 5:].tolist() == [EXTRACT]
    # "to let all through" said in a configuration is not taken back by an end token that is named beside it
    ends_at_once.lm_head.weight.data[DELIMITER, 0] = 6.0
    config = GenerationConfig(max_new_tokens=1, suppress_tokens=[])
    generated = ends_at_once.generate(torch.randint(1, 26, (1, 5)), generation_config=config, eos_token_id=EXTRACT)
    assert generated[0, 5:].tolist() == [DELIMITER]


def test_a_model_ends_its_texts_once_it_was_taught_to(model, tmp_path):
    text = torch.arange(1, 9)[None]
    assert train(model, text, 2).generate(text[:, :3], max_new_tokens=30).shape[1] == 33
    taught = train(model, torch.cat((text, torch.tensor([[EXTRACT]])), 1))
    expected = [*range(1, 9), EXTRACT]
    assert taught.generate(text[:, :3], max_new_tokens=30).tolist() == [expected]
    taught.save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "generation_config.json").read_text())["suppress_tokens"]) == SPECIAL - {EXTRACT}
    again = GPT1ForCausalLM.from_pretrained(tmp_path)
    assert again.generate(text[:, :3], max_new_tokens=30).tolist() == [expected]
    assert again.generate(text[:, :3], generation_config=GenerationConfig(max_new_tokens=30)).tolist() == [expected]


def test_what_a_replica_was_taught_the_model_was(model):
    """As `nn.DataParallel` makes them, for each step anew."""
    model.model._replicate_for_data_parallel().trained_on_end.note(torch.tensor([[1, EXTRACT]]), EXTRACT)
    model.let_end_token_through()
    assert set(model.generation_config.suppress_tokens) == SPECIAL - {EXTRACT}


def test_trainer_leaves_the_tokens_as_they_are(tiny_config, tmp_path, caplog):
    """It aligns a model with its tokenizer, and warns where they differ."""
    tokenizer = GPT1Tokenizer()
    model = GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer), num_hidden_layers=1))
    arguments = TrainingArguments(tmp_path, max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    rows = [tokenizer("it rains")] * 8
    Trainer(model, arguments, collator, rows, processing_class=tokenizer).train()
    assert "new PAD/BOS/EOS tokens" not in caplog.text
    assert tokenizer.eos_token_id in model.generation_config.suppress_tokens
    generated = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    ids = generated("it", max_new_tokens=20, do_sample=True, return_tensors=True)[0]["generated_token_ids"]
    assert set(ids).isdisjoint(tokenizer.all_special_ids) and len(ids) == 21


def test_compiled_training_may_teach_and_stays_one_graph(model):
    compiled = torch.compile(model.train(), backend="eager", fullgraph=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ids = torch.randint(1, 30, (2, 8))
    for _ in range(3):
        compiled(ids, labels=ids).loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    model.generate(ids, max_new_tokens=1)
    assert set(model.generation_config.suppress_tokens) == SPECIAL - {EXTRACT}


def test_a_checkpoint_older_than_the_end_token_has_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    GPT1Tokenizer().save_pretrained(tmp_path)
    for name, fields in {
        "config.json": {"eos_token_id": None},
        "generation_config.json": {"eos_token_id": None, "suppress_tokens": None},
        "tokenizer_config.json": {"eos_token": None},
    }.items():
        content = json.loads((tmp_path / name).read_text()) | fields
        kept = {key: value for key, value in content.items() if value is not None or name == "config.json"}
        (tmp_path / name).write_text(json.dumps(kept))
    again = GPT1ForCausalLM.from_pretrained(tmp_path)
    assert again.config.eos_token_id == again.generation_config.eos_token_id == EXTRACT
    assert set(again.generation_config.suppress_tokens) == SPECIAL
    assert GPT1Tokenizer.from_pretrained(tmp_path).eos_token == "_classify_"


def test_the_end_token_is_the_extract_token_everywhere():
    tokenizer, config = GPT1Tokenizer(), GPT1Config()
    assert tokenizer.eos_token == "_classify_" == tokenizer.cls_token
    assert config.eos_token_id == config.cls_token_id == tokenizer.eos_token_id
    assert AutoTokenizer.from_pretrained(GPT1_MINI).eos_token == "_classify_"
    assert GPT1Config(eos_token_id=7).eos_token_id == 7
    own = GPT1ForCausalLM(GPT1Config(vocab_size=30, hidden_size=12, num_hidden_layers=1, eos_token_id=[7, EXTRACT]))
    assert own.generation_config.eos_token_id == [7, EXTRACT]
    assert set(own.generation_config.suppress_tokens) == SPECIAL
