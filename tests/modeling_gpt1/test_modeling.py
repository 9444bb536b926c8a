"""The decoder and the language models, against transformers' OpenAIGPT on the same weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    OpenAIGPTConfig,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTLMHeadModel,
    StaticCache,
    Trainer,
    TrainingArguments,
)
from transformers.utils.generic import find_labels

from modeling_gpt1 import (
    GPT1Config,
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForMaskedLM,
    GPT1ForSequenceClassification,
    GPT1Model,
)
from modeling_gpt1.modeling_gpt1 import AUTO_CLASSES


VOCABULARY = 100


@pytest.fixture
def peers(tmp_path, spread):
    """An OpenAIGPT language model and ours, loaded from its checkpoint."""

    def build(dtype: torch.dtype = torch.float32, **kwargs):
        shape = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
        peer = spread(OpenAIGPTLMHeadModel(OpenAIGPTConfig(**(shape | kwargs)))).eval()
        peer.save_pretrained(tmp_path / "peer")
        return peer.to(dtype), GPT1ForCausalLM.from_pretrained(tmp_path / "peer", dtype=dtype).eval()

    return build


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_logits_equal_the_peers(peers, dtype, tolerance, implementation):
    peer, ours = peers(dtype)
    ours.set_attn_implementation(implementation)
    for length in (1, 2, 63, 64):
        ids = torch.randint(VOCABULARY, (3, length))
        segments = torch.randint(VOCABULARY, (3, length))
        assert ours(ids).logits.dtype == dtype
        torch.testing.assert_close(ours(ids).logits, peer(ids).logits, atol=tolerance, rtol=0)
        torch.testing.assert_close(
            ours(ids, token_type_ids=segments).logits,
            peer(ids, token_type_ids=segments).logits,
            atol=tolerance,
            rtol=0,
        )


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-5), (torch.float64, 1e-10)])
def test_logits_equal_the_peers_at_full_size(tmp_path, dtype, tolerance):
    peer = OpenAIGPTLMHeadModel(OpenAIGPTConfig()).eval()
    peer.save_pretrained(tmp_path)
    ours = GPT1ForCausalLM.from_pretrained(tmp_path, dtype=dtype).eval()
    ids = torch.randint(peer.config.vocab_size, (1, 40))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, peer.to(dtype)(ids).logits, atol=tolerance, rtol=0)


def test_loss_and_gradients_equal_the_peers(peers):
    peer, ours = peers(torch.float64)
    ids = torch.randint(VOCABULARY, (2, 12))
    labels = ids.clone()
    labels[0, :5] = -100
    # The peer's loss is computed in float32.
    torch.testing.assert_close(ours(ids, labels=labels).loss.float(), peer(ids, labels=labels).loss.float())
    total = ours(ids, labels=labels, num_items_in_batch=7).loss
    torch.testing.assert_close(total, ours(ids, labels=labels).loss * (11 + 7) / 7)
    ours(ids).logits.square().sum().backward()
    peer(ids).logits.square().sum().backward()
    torch.testing.assert_close(ours.lm_head.weight.grad, peer.lm_head.weight.grad)
    torch.testing.assert_close(
        ours.model.layers[0].self_attn.qkv_proj.weight.grad, peer.transformer.h[0].attn.c_attn.weight.grad.T
    )


@pytest.mark.parametrize("strategy", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 1.5, "top_k": 20}])
def test_generates_the_peers_tokens(peers, strategy):
    peer, ours = peers(torch.float64)
    ids = torch.randint(VOCABULARY, (2, 7))
    generated = []
    for model in (peer, ours):
        torch.manual_seed(1)
        options = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0} | strategy
        generated.append(model.generate(ids, attention_mask=torch.ones_like(ids), **options))
    assert generated[0].tolist() == generated[1].tolist()


@pytest.fixture
def model(tiny_config, spread) -> GPT1ForCausalLM:
    return spread(GPT1ForCausalLM(tiny_config())).double().eval()


def test_cached_equals_uncached(model):
    ids = torch.randint(VOCABULARY, (2, 30))
    whole = model(ids, use_cache=False)
    assert whole.past_key_values is None
    cache, parts = None, []
    for part in ids.split([10, 1, 1, 18], dim=1):
        output = model(part, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    assert cache.get_seq_length() == 30
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits)


def test_static_cache_equals_no_cache(model):
    ids = torch.randint(VOCABULARY, (2, 8))
    plain = model.generate(ids, do_sample=False, max_new_tokens=12, use_cache=False)
    static = model.generate(ids, do_sample=False, max_new_tokens=12, cache_implementation="static")
    assert plain.tolist() == static.tolist()
    cache = StaticCache(model.config, max_cache_len=20)
    torch.testing.assert_close(model(ids, past_key_values=cache).logits, model(ids).logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_padded_batch_equals_its_texts_alone(model, pad, side, implementation):
    model.set_attn_implementation(implementation)
    rows = [torch.randint(1, 90, (length,)).tolist() for length in (1, 5, 17, 20)]
    ids, mask = pad(rows, 20, model.config.pad_token_id, side)
    logits = model(ids, attention_mask=mask).logits
    for row, got, real in zip(rows, logits, mask.bool(), strict=True):
        torch.testing.assert_close(got[real], model(torch.tensor([row])).logits[0])


def test_generation_from_a_left_padded_batch_equals_its_texts_alone(model, pad):
    rows = [torch.randint(1, 90, (length,)).tolist() for length in (1, 9, 30)]
    ids, mask = pad(rows, 30, model.config.pad_token_id, "left")
    together = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=15)
    for row, got in zip(rows, together[:, 30:], strict=True):
        alone = model.generate(torch.tensor([row]), do_sample=False, max_new_tokens=15)
        assert got.tolist() == alone[0, len(row) :].tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_nothing_is_predicted_from_padding(model, pad, side):
    """Whatever the kernel does with rows of padding: the loss and its gradients are those of the texts alone."""
    rows = [torch.randint(1, 90, (length,)).tolist() for length in (2, 9, 20)]
    ids, mask = pad(rows, 20, model.config.pad_token_id, side)
    labels = ids.masked_fill(mask == 0, -100)
    losses = [model(torch.tensor([row]), labels=torch.tensor([row])).loss * (len(row) - 1) for row in rows]
    expected = sum(losses) / sum(len(row) - 1 for row in rows)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    for implementation in ("sdpa", "eager"):
        for training in (True, False):
            model.set_attn_implementation(implementation)
            loss = model.train(training)(ids, attention_mask=mask, labels=labels).loss
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(torch.autograd.grad(loss, list(model.parameters())), gradients)


@pytest.mark.parametrize("training", [True, False])
def test_labels_that_are_shifted_already(model, training):
    """Each half of a sequence, as where it is split over devices, has a part of the whole's loss."""
    ids = torch.randint(VOCABULARY, (2, 12))
    shifted = F.pad(ids[:, 1:], (0, 1), value=-100)
    model.train(training)
    whole = model(ids, labels=ids).loss
    torch.testing.assert_close(model(ids, shift_labels=shifted).loss, whole)
    torch.testing.assert_close(model(ids, labels=ids, shift_labels=shifted).loss, whole)
    cache = model(ids[:, :6], use_cache=True).past_key_values
    halves = [
        model(ids[:, :6], shift_labels=shifted[:, :6], num_items_in_batch=22).loss,
        model(ids[:, 6:], shift_labels=shifted[:, 6:], past_key_values=cache, num_items_in_batch=22).loss,
    ]
    torch.testing.assert_close(sum(halves), whole)


@pytest.mark.parametrize("head", [head for heads in AUTO_CLASSES.values() for head in heads if head is not GPT1Model])
def test_labels_are_all_that_a_plain_trainer_asks_of_a_batch(head):
    """`Trainer` takes each argument of such a name for one that a batch must have to evaluate a loss."""
    peers = {GPT1DoubleHeadsModel: OpenAIGPTDoubleHeadsModel}
    assert find_labels(head) == (find_labels(peers[head]) if head in peers else ["labels"])


def test_a_batch_without_a_target_has_no_loss(model):
    ids = torch.randint(VOCABULARY, (2, 1))
    for training in (True, False):
        assert model.train(training)(ids, labels=ids).loss == 0


@pytest.mark.parametrize(
    "change", [{"vocab_size": 10}, {"n_positions": 7}, {"num_labels": 5}, {"n_embd": 16}], ids=str
)
@pytest.mark.parametrize("source", [GPT1ForSequenceClassification, OpenAIGPTLMHeadModel])
def test_weights_of_another_shape_are_refused(tmp_path, tiny_config, source, change):
    """Unless the caller says so, and then the rest is loaded."""
    if source is OpenAIGPTLMHeadModel:
        ours = GPT1ForCausalLM
        model = source(OpenAIGPTConfig(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=3, n_head=4))
    else:
        ours = source
        model = source(tiny_config(num_labels=2))
    model.save_pretrained(tmp_path)
    if ours is GPT1ForCausalLM and "num_labels" in change:
        ours.from_pretrained(tmp_path, **change)  # which has no labels
        return
    with pytest.raises(RuntimeError, match="pass ignore_mismatched_sizes=True for new ones, such as a new head, or"):
        ours.from_pretrained(tmp_path, **change)
    loaded = ours.from_pretrained(tmp_path, **change, ignore_mismatched_sizes=True)
    assert all(getattr(loaded.config, name) == value for name, value in change.items())
    assert torch.isfinite(loaded.eval()(torch.tensor([[1, 2, 3]])).logits).all()


def test_flex_attention_equals_eager(tiny_config, spread):
    model = spread(
        GPT1Model(tiny_config(num_hidden_layers=1, hidden_size=64))
    ).eval()  # flex needs heads of 16 or more
    ids = torch.randint(VOCABULARY, (2, 16))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with torch.no_grad():
        model.set_attn_implementation("eager")
        expected = model(ids, attention_mask=mask).last_hidden_state
        model.set_attn_implementation("flex_attention")
        got = model(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)


def test_flash_attention_is_offered(model):
    if torch.cuda.is_available():
        pytest.skip("on a GPU the kernel itself has to be there; this checks what happens where it is not")
    assert model._supports_flash_attn
    with pytest.raises((ImportError, ValueError), match="(?i)flash"):
        model.set_attn_implementation("flash_attention_2")


def test_inputs_embeds_replace_input_ids(model):
    ids = torch.randint(VOCABULARY, (2, 9))
    torch.testing.assert_close(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, model(ids).logits)


def test_records_hidden_states_and_attentions(model):
    ids = torch.randint(VOCABULARY, (2, 9))
    model.set_attn_implementation("eager")
    output = model(ids, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, 9, 32)] * 4
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, 9, 9)] * 3
    torch.testing.assert_close(model.lm_head(output.hidden_states[-1]), output.logits)
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert weights.triu(1).eq(0).all()
    assert [tuple(part.shape) for part in model(ids, return_dict=False, use_cache=False)] == [(2, 9, VOCABULARY)]


@torch.no_grad()
@pytest.mark.parametrize("padding", [None, "left", "right"])
@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_attentions_of_the_fused_attention_are_those_of_the_plain_one(model, how, padding):
    assert model.config._attn_implementation == "sdpa"
    ids = torch.randint(VOCABULARY, (2, 7))
    mask = torch.ones_like(ids)
    if padding:
        mask[1, slice(3) if padding == "left" else slice(-3, None)] = 0
    asked = {"output_attentions": True} if how == "argument" else {}
    if how == "configuration":
        model.config._output_attentions = True  # as in a file that was saved under eager attention
    cache = model(ids[:, :4], mask[:, :4], use_cache=True, output_attentions=False)
    assert cache.attentions is None
    passes = [(ids, mask, None), (ids[:, 4:], mask, cache.past_key_values)]
    fused = [model(*inputs[:2], past_key_values=copy.deepcopy(inputs[2]), **asked) for inputs in passes]
    assert model(ids, output_attentions=False).attentions is None
    model.set_attn_implementation("eager")
    for inputs, output in zip(passes, fused, strict=True):
        plain = model(*inputs[:2], past_key_values=inputs[2], **asked)
        assert len(output.attentions) == model.config.num_hidden_layers
        torch.testing.assert_close(output.attentions, plain.attentions)
        torch.testing.assert_close(output.logits, plain.logits)


def test_attentions_of_another_fused_attention_are_refused_with_the_remedy(model):
    model.set_attn_implementation("flex_attention")
    for module in (model, model.model):
        with pytest.raises(ValueError, match='attn_implementation="eager"'):
            module(torch.randint(VOCABULARY, (1, 5)), output_attentions=True)


def test_a_ready_mask_may_be_of_truth_values(model):
    ids = torch.randint(VOCABULARY, (2, 7))
    ready = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7)
    expected = model(ids, use_cache=False).logits
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        torch.testing.assert_close(model(ids, ready, use_cache=False).logits, expected)


def test_a_trace_sees_the_padding_of_other_inputs(model):
    ids, mask = torch.randint(1, 90, (1, 8)), torch.ones(1, 8, dtype=torch.long)
    model.requires_grad_(False)  # the trace holds its weights as constants
    traced = torch.jit.trace(lambda ids, mask: model(ids, attention_mask=mask).logits, (ids, mask))
    mask[:, :3] = 0
    torch.testing.assert_close(traced(ids, mask)[:, 3:], model(ids, attention_mask=mask).logits[:, 3:])


@pytest.mark.parametrize("use_cache", [False, True])
def test_positions_beside_a_mask_divide_no_row(model, use_cache):
    """Without a mask, positions that begin anew are those of packed texts; a mask tells what is seen."""
    ids, positions = torch.randint(1, 90, (1, 8)), torch.tensor([[3, 1, 4, 0, 5, 9, 2, 6]])
    causal = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    expected = model(ids, attention_mask=causal, position_ids=positions, use_cache=False).logits
    mask = torch.ones_like(ids)
    got = model(ids, attention_mask=mask, position_ids=positions, use_cache=use_cache).logits
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("use_cache", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(model, use_cache):
    """Also where a cache is asked for, to which a step that is run twice would add twice."""
    ids = torch.randint(VOCABULARY, (2, 9))
    model.train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        model(ids, labels=ids, use_cache=use_cache).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gradient_checkpointing_refuses_a_cache_that_is_given(model):
    """As prefix tuning gives it: a step that is run twice would add to it twice."""
    ids = torch.randint(VOCABULARY, (2, 9))
    past = model(ids[:, :4], use_cache=True).past_key_values
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(ValueError, match="gradient_checkpointing=False"):
        model(ids[:, 4:], past_key_values=past, labels=ids[:, 4:])
    with torch.no_grad():
        model(ids[:, 4:], past_key_values=past)


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForMaskedLM])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_texts_do_not_see_each_other(tiny_config, spread, model_class, implementation):
    """With and without labels, which decide on the cache."""
    model = spread(model_class(tiny_config())).double().eval()
    model.set_attn_implementation(implementation)
    texts = [torch.randint(1, 90, (1, length)) for length in (5, 1, 7)]
    packed, positions = torch.cat(texts, 1), torch.cat([torch.arange(text.shape[1]) for text in texts])[None]
    expected = torch.cat([model(text).logits for text in texts], 1)
    torch.testing.assert_close(model(packed, position_ids=positions).logits, expected)
    torch.testing.assert_close(model(packed, position_ids=positions, labels=packed).logits, expected)


@pytest.mark.parametrize("head", [head for heads in AUTO_CLASSES.values() for head in heads])
def test_a_configuration_may_ask_for_tuples(tiny_config, spread, head):
    model = spread(head(tiny_config())).eval()
    ids = torch.tensor([[96, 5, 97, 7, 98], [96, 6, 97, 5, 98]])
    ids = ids[None] if "Choice" in head.__name__ or "Double" in head.__name__ else ids
    expected = model(ids)[0]
    model.config.return_dict = False
    output = model(ids)
    assert type(output) is tuple and torch.equal(output[0], expected)
    if head is GPT1ForCausalLM:
        assert model.generate(ids, max_new_tokens=3, do_sample=False).shape == (2, 8)


def test_trainer_predicts_without_labels(model, tmp_path):
    """The cache, which a pass without labels returns, is none of the outputs that it gathers."""
    arguments = TrainingArguments(tmp_path, per_device_eval_batch_size=2, report_to="none", use_cpu=True)
    rows = [{"input_ids": torch.randint(VOCABULARY, (6,))} for _ in range(3)]
    logits = Trainer(model.float(), arguments).predict(rows).predictions
    assert logits.shape == (3, 6, VOCABULARY)


def test_logits_to_keep(model):
    ids = torch.randint(VOCABULARY, (2, 9))
    logits = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 4])).logits, logits[:, [0, 4]])
    of_each_row = torch.tensor([[0, 4, 8], [1, 1, 7]])
    expected = torch.stack([row[kept] for row, kept in zip(logits, of_each_row, strict=True)])
    torch.testing.assert_close(model(ids, logits_to_keep=of_each_row).logits, expected)
    mask = torch.rand(2, 9) < 0.5
    torch.testing.assert_close(model(ids, logits_to_keep=mask).logits, logits[mask])
    targets = F.pad(ids[:, 1:], (0, 1), value=-100)
    kept = model(ids, labels=ids, logits_to_keep=mask, skip_logits=False).loss
    torch.testing.assert_close(kept, F.cross_entropy(logits[mask], targets[mask]))


def test_a_cache_may_be_none(model):
    ids = torch.randint(VOCABULARY, (2, 9))
    torch.testing.assert_close(model(ids, cache=None, labels=ids).loss, model(ids, labels=ids).loss)


def test_an_input_at_the_limit_passes_and_a_longer_one_is_refused(model):
    limit = model.config.max_position_embeddings
    assert model(torch.randint(VOCABULARY, (1, limit))).logits.shape[1] == limit
    with pytest.raises(ValueError, match="65 tokens long.*at most 64"):
        model(torch.randint(VOCABULARY, (1, limit + 1)))
    cache = model(torch.randint(VOCABULARY, (1, limit)), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="65 tokens long.*at most 64"):
        model(torch.randint(VOCABULARY, (1, 1)), past_key_values=cache)


def test_an_empty_input_is_refused(model):
    with pytest.raises(ValueError, match="the input is empty"):
        model(torch.zeros(2, 0, dtype=torch.long))


@pytest.mark.parametrize("wrong", [VOCABULARY, -1])
def test_token_ids_outside_the_vocabulary_are_refused(model, wrong):
    with pytest.raises(ValueError, match=rf"token ids must lie in \[0, {VOCABULARY}\).*{wrong}"):
        model(torch.tensor([[5, wrong]]))


def test_ids_and_embeddings_exclude_each_other(model):
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="exactly one"):
        model(input_ids=torch.tensor([[1]]), inputs_embeds=torch.zeros(1, 1, 32).double())


def test_output_embedding_is_tied_and_grows_with_the_vocabulary(model):
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.resize_token_embeddings(VOCABULARY + 4, mean_resizing=False)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model(torch.tensor([[VOCABULARY + 3]])).logits.shape == (1, 1, VOCABULARY + 4)


def test_initial_weights():
    config = GPT1Config(num_hidden_layers=2, vocab_size=2000)
    model = GPT1ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert parameter.eq(1).all(), name
        elif name.endswith("bias"):
            assert parameter.eq(0).all(), name
        else:
            assert abs(parameter.std().item() - 0.02) < 2e-4 and abs(parameter.mean().item()) < 2e-4, name
    pre = GPT1ForCausalLM(GPT1Config(num_hidden_layers=2, vocab_size=2000, norm_position="pre"))
    assert abs(pre.model.layers[0].mlp.down_proj.weight.std().item() - 0.02 / 2) < 1e-4
    assert abs(pre.model.layers[0].mlp.up_proj.weight.std().item() - 0.02) < 1e-4


def test_attention_window_limits_what_a_token_sees(tiny_config, spread):
    config = tiny_config(attention_window=4, num_hidden_layers=1)
    model = spread(GPT1ForCausalLM(config)).double().eval()
    ids = torch.randint(VOCABULARY, (1, 20))
    changed = ids.clone()
    changed[0, 10] = (ids[0, 10] + 1) % VOCABULARY
    moved = (model(ids).logits - model(changed).logits).abs().amax(-1)[0] > 1e-9
    assert moved.nonzero().flatten().tolist() == [10, 11, 12, 13]
    assert windows_told(model, ids) == [4]
    model.set_attn_implementation("eager")
    plain = model.generate(ids[:, :6], do_sample=False, max_new_tokens=12, use_cache=False)
    assert plain.tolist() == model.generate(ids[:, :6], do_sample=False, max_new_tokens=12).tolist()


def windows_told(model, ids):
    """The window that the attention function of each layer is told, by which a fused kernel goes."""
    told = []

    def attention(module, query, key, value, mask, sliding_window, **kwargs):
        told.append(sliding_window)
        return torch.zeros_like(query).transpose(1, 2), None

    AttentionInterface.register("tells", attention)
    model.set_attn_implementation("tells")
    model(ids)
    return told


def test_attention_window_of_a_masked_language_model(tiny_config, spread):
    """So many tokens on either side; a fused kernel counts the token itself as one of them."""
    model = spread(GPT1ForMaskedLM(tiny_config(attention_window=4, num_hidden_layers=1))).double().eval()
    ids = torch.randint(1, 90, (1, 20))
    changed = ids.clone()
    changed[0, 10] = ids[0, 10] % 90 + 1
    moved = (model(ids).logits - model(changed).logits).abs().amax(-1)[0] > 1e-9
    assert moved.nonzero().flatten().tolist() == [*range(6, 15)]
    assert windows_told(model, ids) == [5]


def test_masked_language_model_sees_both_sides(tiny_config, spread):
    config = tiny_config()
    model = spread(GPT1ForMaskedLM(config)).double().eval()
    assert config.is_causal and not model.config.is_causal
    ids = torch.randint(VOCABULARY, (1, 12))
    changed = ids.clone()
    changed[0, 11] = (ids[0, 11] + 1) % VOCABULARY
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        assert ((model(ids).logits - model(changed).logits).abs().amax(-1) > 1e-9).all()
    labels = torch.full_like(ids, -100)
    labels[0, 3] = ids[0, 3]
    expected = -model(ids).logits[0, 3].log_softmax(-1)[ids[0, 3]]
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)
    with pytest.raises(ValueError, match="is_causal"):
        GPT1ForCausalLM(model.config)


def test_sinusoidal_positions_need_no_parameters(tiny_config):
    model = GPT1Model(tiny_config(position_embedding_type="sinusoidal"))
    positions = model.embed_positions(torch.tensor([[0, 7]]))
    expected = [torch.tensor(7 / 10_000 ** (2 * i / 32), dtype=torch.double) for i in range(16)]
    torch.testing.assert_close(positions[0, 1, 0::2].double(), torch.stack(expected).sin(), atol=1e-6, rtol=0)
    torch.testing.assert_close(positions[0, 1, 1::2].double(), torch.stack(expected).cos(), atol=1e-6, rtol=0)
    assert positions[0, 0].tolist() == [0, 1] * 16
    assert not [name for name, _ in model.named_parameters() if "positions" in name]


@pytest.mark.parametrize(
    "ours, auto",
    [(GPT1Model, AutoModel), (GPT1ForCausalLM, AutoModelForCausalLM), (GPT1ForMaskedLM, AutoModelForMaskedLM)],
)
def test_saved_models_load_through_auto_classes(tiny_config, tmp_path, ours, auto):
    model = ours(tiny_config()).eval()
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path).eval()
    assert type(loaded) is ours
    ids = torch.randint(VOCABULARY, (1, 5))
    assert torch.equal(loaded(ids)[0], model(ids)[0])
    assert {file.name for file in tmp_path.iterdir()} >= {"configuration_gpt1.py", "modeling_gpt1.py"}


def test_a_masked_training_step_compiles_whole(tiny_config):
    model = GPT1ForMaskedLM(tiny_config()).double().train()
    ids = torch.randint(1, 20, (2, 6))
    losses, gradients = [], []
    for step in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        loss = step(ids, labels=ids).loss
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def test_compiles_whole(model):
    model = copy.deepcopy(model).float()
    ids = torch.randint(VOCABULARY, (2, 12))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ids, use_cache=False).logits, model(ids).logits)


def test_a_compiled_pass_without_padding_leaves_the_mask_to_the_kernel(model, monkeypatch):
    masks = []

    def kernel(query, key, value, attn_mask=None, **options):
        masks.append((attn_mask, options["is_causal"]))
        return attention(query, key, value, attn_mask=attn_mask, **options)

    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
    model = copy.deepcopy(model).float()
    model.set_attn_implementation("sdpa")
    ids = torch.randint(VOCABULARY, (2, 12))
    expected = model(ids, use_cache=False).logits
    masks.clear()
    compiled = torch.compile(model, backend="eager")(ids, use_cache=False).logits
    assert set(masks) == {(None, True)}
    torch.testing.assert_close(compiled, expected)
