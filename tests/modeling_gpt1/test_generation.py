"""Generation: past the last position, from caches with room."""

import copy
import inspect
import unittest.mock
from functools import partial

import pytest
import torch
from transformers import (
    CompileConfig,
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    TextIteratorStreamer,
)

from modeling_gpt1 import GPT1DoubleHeadsModel, GPT1ForCausalLM
from modeling_gpt1.generation_gpt1 import GrowingLayer, SuppressTokens
from tokenization import GPT1Tokenizer


VOCABULARY, LIMIT = 100, 16

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def build(tiny_config, spread):
    def build(**options) -> GPT1ForCausalLM:
        config = tiny_config(vocab_size=VOCABULARY, max_position_embeddings=LIMIT, **options)
        return spread(GPT1ForCausalLM(config)).double().eval()

    return build


def test_a_vocabulary_that_was_made_smaller_generates(build):
    model = build()
    model.resize_token_embeddings(50)
    assert model.generate(torch.randint(50, (1, 3)), max_new_tokens=3).max() < 50


def test_no_token_is_suppressed_that_the_scores_do_not_have():
    """An assistant, whose vocabulary may be smaller, is asked with the processors of the model that it helps."""
    suppress = SuppressTokens(torch.tensor([1, 7, 96]))
    for width in (100, 50, 5):
        scores = suppress(None, torch.zeros(2, width))
        assert (scores == -torch.inf).nonzero()[:, 1].tolist() == [token for token in (1, 7, 96) if token < width] * 2


def encoded_anew_at_every_step(model, ids, mask, new_tokens, keep):
    """Greedy tokens without any cache: the text since the last time that it did not fit."""
    start = 0
    for _ in range(new_tokens):
        while ids.shape[1] - start > LIMIT:
            start += LIMIT + 1 - keep
        logits = model(ids[:, start:], attention_mask=mask[:, start:]).logits[:, -1:]
        logits[..., [0, 96, 97, 98, 99]] = -torch.inf  # the special tokens
        ids = torch.cat([ids, logits.argmax(-1)], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return ids


@pytest.mark.parametrize(
    "options", [{}, {"attention_window": 5}, {"norm_position": "pre", "position_embedding_type": "sinusoidal"}]
)
@pytest.mark.parametrize("share, kept", [(0.5, 8), (0.9, 14), (0.01, 1)])
def test_past_the_limit_tokens_are_those_of_the_window_encoded_anew(build, options, share, kept):
    model = build(**options)
    for length in (3, LIMIT, 40):
        ids = torch.randint(VOCABULARY, (2, length))
        mask = torch.ones_like(ids)
        mask[1, : min(length // 2, 11)] = 0
        expected = encoded_anew_at_every_step(model, ids, mask, 40, kept)
        generate = partial(
            model.generate, ids, attention_mask=mask, do_sample=False, max_new_tokens=40, window_keep=share
        )
        assert generate().tolist() == expected.tolist()
        assert generate(use_cache=False).tolist() == expected.tolist()
        assert generate(cache_implementation="static").tolist() == expected.tolist()
        assert generate(past_key_values=DynamicCache(config=model.config)).tolist() == expected.tolist()
        assert generate(prefill_chunk_size=4).tolist() == expected.tolist()


@pytest.mark.parametrize("strategy", [{"num_beams": 3}, {"do_sample": True, "top_k": 20}])
def test_past_the_limit_other_strategies_need_no_cache_either(build, strategy):
    model = build()
    ids = torch.randint(VOCABULARY, (2, 5))
    generated = []
    for use_cache in (True, False):
        torch.manual_seed(1)
        generated.append(model.generate(ids, max_new_tokens=40, use_cache=use_cache, **strategy).tolist())
    assert generated[0] == generated[1]


def test_past_the_limit_a_streamer_gets_every_token(spread, tiny_config):
    tokenizer = GPT1Tokenizer()
    model = spread(GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer), max_position_embeddings=LIMIT)))
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    generated = model.generate(ids, do_sample=False, max_new_tokens=30, streamer=streamer)
    assert generated.shape[1] == ids.shape[1] + 30
    assert "".join(streamer).split() == tokenizer.decode(generated[0, ids.shape[1] :]).split()


def test_what_cannot_be_generated_is_refused(build):
    model = build()
    ids = torch.randint(VOCABULARY, (1, 10))
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match="window_keep is the part of a window that is kept, between 0 and 1"):
            model.generate(ids, max_new_tokens=3, window_keep=share)
    with pytest.raises(ValueError, match="assisted generation ends at 16 tokens"):
        model.generate(ids, do_sample=False, max_new_tokens=40, prompt_lookup_num_tokens=3)


def test_a_cache_with_room_holds_what_transformers_holds():
    ours, theirs = DynamicCache(), DynamicCache()
    ours.layer_class_to_replicate = GrowingLayer
    batch = 2
    for step in range(3 * GrowingLayer.ROOM):
        new = torch.randn(2, batch, 2, 1 if step % 100 else 7, 4)
        with torch.inference_mode(step % 10 < 5), torch.set_grad_enabled(step == 150):
            for cache in (ours, theirs):
                states = cache.update(*new, layer_idx=0)
                if step == 40:
                    cache.reorder_cache(torch.tensor([1, 1]))
                if step == 60:
                    cache.crop(-20)
                if step == 80:
                    cache.batch_repeat_interleave(2)
                if cache is ours:
                    got = states
        batch = len(ours.layers[0].keys)
        assert all(torch.equal(a, b) for a, b in zip(got, states, strict=True)), step
    assert ours.get_seq_length() == theirs.get_seq_length()


@pytest.mark.parametrize("window", [None, 5])
def test_a_cache_that_is_handed_back_is_continued(build, window):
    model = build(attention_window=window)
    ids = torch.randint(1, 96, (2, 6))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    options = {"do_sample": False, "return_dict_in_generate": True}
    expected = model.generate(ids, attention_mask=mask, max_new_tokens=20, **options).sequences
    start = model.generate(ids, attention_mask=mask, max_new_tokens=6, **options)
    mask = torch.nn.functional.pad(mask, (0, 6), value=1)

    def go_on(given, new_tokens):
        cache = copy.deepcopy(start.past_key_values)
        with unittest.mock.patch.object(model.model, "forward", wraps=model.model.forward) as forward:
            generated = model.generate(
                given, attention_mask=mask, past_key_values=cache, max_new_tokens=new_tokens, **options
            ).sequences
        assert forward.call_args_list[0].kwargs["input_ids"].shape[1] == 1  # all that the cache lacks
        return generated.tolist()

    assert go_on(start.sequences, 14) == expected.tolist()
    assert go_on(start.sequences[:, -1:], 3) == expected[:, 11:15].tolist()
    with pytest.raises(ValueError, match="past 16 tokens .* pass the whole text beside its past_key_values"):
        go_on(start.sequences[:, -1:], 14)


def test_a_new_token_does_not_move_the_cache():
    layer = GrowingLayer()
    with torch.no_grad():
        layer.update(*torch.randn(2, 1, 2, 5, 4))
        before = layer.keys.data_ptr(), layer.values.data_ptr()
        for _ in range(GrowingLayer.ROOM):
            layer.update(*torch.randn(2, 1, 2, 1, 4))
    assert (layer.keys.data_ptr(), layer.values.data_ptr()) == before


@pytest.mark.parametrize("batch, grows", [(2, False), (200, True)])
def test_an_accelerator_copies_what_is_little(batch, grows):
    """As on the meta device, which is none, but no CPU either."""
    layer = GrowingLayer()
    with torch.no_grad():
        for length in (400, 1, 1):
            keys, _ = layer.update(*torch.empty(2, batch, 4, length, 16, device="meta"))
    assert keys.shape == (batch, 4, 402, 16) and keys.is_contiguous() is not grows


def test_the_signature_that_each_token_is_asked_for_is_kept():
    class Narrower(GPT1ForCausalLM):
        def forward(self, input_ids=None, attention_mask=None, **kwargs):
            return super().forward(input_ids, attention_mask, **kwargs)

    for model in (GPT1ForCausalLM, GPT1DoubleHeadsModel, Narrower):
        kept = inspect.signature(model.forward)
        assert kept is inspect.signature(model.forward)  # and not derived anew
        function = inspect.unwrap(model.forward)
        assert list(kept.parameters) == list(function.__code__.co_varnames[: len(kept.parameters)])
    assert inspect.signature(Narrower.forward) != inspect.signature(GPT1ForCausalLM.forward)


def test_a_static_cache_compiles_to_one_graph(build):
    model = build(num_hidden_layers=1).float()
    ids = torch.randint(VOCABULARY, (2, 5))
    compiled = CompileConfig(backend="eager", fullgraph=True, mode=None)
    compiled._compile_all_devices = True
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    expected = model.generate(ids, do_sample=False, max_new_tokens=10).tolist()
    for _ in range(2):
        got = model.generate(
            ids, do_sample=False, max_new_tokens=10, cache_implementation="static", compile_config=compiled
        )
        assert got.tolist() == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.fixture
def prompt(build):
    """A model of 16 positions, a prompt, and its embeddings."""
    model = build()
    ids = torch.randint(1, 96, (2, 7))
    return model, ids, model.get_input_embeddings()(ids)


@pytest.mark.parametrize("new_tokens", [6, 40])
@pytest.mark.parametrize("strategy", [{"do_sample": False}, {"num_beams": 3}, {"cache_implementation": "static"}])
def test_embeddings_generate_what_their_ids_do(prompt, new_tokens, strategy):
    model, ids, embeds = prompt
    strategy = {"do_sample": False, "max_new_tokens": new_tokens} | strategy
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    for given in ({}, {"attention_mask": mask}):
        expected = model.generate(ids, **given, **strategy)
        assert model.generate(inputs_embeds=embeds, **given, **strategy).tolist() == expected[:, 7:].tolist()
        assert model.generate(ids, inputs_embeds=embeds, **given, **strategy).tolist() == expected.tolist()


def test_past_the_limit_embeddings_of_no_token_stay(prompt):
    """What is re-encoded is the embeddings that were given, as far as the window reaches back to them."""
    model, ids, embeds = prompt
    embeds = embeds + torch.randn_like(embeds)
    generated = model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=12)
    text = embeds
    for step in range(12):
        start = 9 if text.shape[1] > LIMIT else 0
        logits = model(inputs_embeds=text[:, start:]).logits[:, -1]
        logits[:, [0, 96, 97, 98, 99]] = -torch.inf
        assert generated[:, step].tolist() == logits.argmax(-1).tolist(), step
        text = torch.cat((text, model.get_input_embeddings()(generated[:, step : step + 1])), 1)


@pytest.mark.parametrize("window", [None, 5])
def test_every_way_gives_what_a_single_run_gives(tiny_config, spread, window):
    model, draft = (
        spread(GPT1ForCausalLM(tiny_config(num_hidden_layers=layers, attention_window=window))).double().eval()
        for layers in (3, 1)
    )
    ids = torch.randint(1, 96, (1, 9))
    options = {"do_sample": False, "max_new_tokens": 20}
    expected = model.generate(ids, **options).tolist()
    assert model.generate(ids, assistant_model=draft, **options).tolist() == expected
    assert model.generate(ids, prompt_lookup_num_tokens=3, **options).tolist() == expected
    assert model.generate(ids, assistant_early_exit=1, **options).tolist() == expected
    assert model.generate(ids, cache_implementation="static", **options).tolist() == expected
    longer = torch.cat((torch.randint(1, 96, (1, 12)), torch.nn.functional.pad(ids, (3, 0), value=99)))
    mask = (longer != 99).long()
    assert model.generate(longer, attention_mask=mask, **options)[1:, 3:].tolist() == expected
    beams = model.generate(ids, num_beams=4, **options).tolist()
    assert model.generate(longer, attention_mask=mask, num_beams=4, **options)[1:, 3:].tolist() == beams


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_continuous_batching_gives_what_a_single_run_gives(attention, tiny_config, spread):
    model = spread(GPT1ForCausalLM(tiny_config())).double().eval()
    model.set_attn_implementation(attention)
    ids = torch.randint(1, 96, (1, 9))
    options = {"do_sample": False, "max_new_tokens": 20}
    room = ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64)  # by default, all memory that is free
    prompts = [ids[0].tolist(), torch.randint(1, 96, (12,)).tolist()]
    answers = model.generate_batch(prompts, GenerationConfig(eos_token_id=-1, **options), room)
    assert [prompts[0] + answers["req_0"].generated_tokens] == model.generate(ids, **options).tolist()
