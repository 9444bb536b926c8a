"""
Models whose output layer or token embedding is not what it was: with an adapter, a hook or a bias, offloaded,
quantized, sharded or partitioned. Losses and gradients are those of what the modules compute, whatever is around them.
"""

import copy

import accelerate
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrize
from transformers import AutoModel
from transformers.integrations.neftune import activate_neftune
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_gpt1 import GPT1ForCausalLM, GPT1ForMaskedLM, GPT1ForMultipleChoice, GPT1ForSequenceClassification
from modeling_gpt1.losses_gpt1 import is_plain


pytestmark = pytest.mark.usefixtures("one_thread")

LANGUAGE_MODELS = [GPT1ForCausalLM, GPT1ForMaskedLM]
MODELS = [*LANGUAGE_MODELS, GPT1ForSequenceClassification, GPT1ForMultipleChoice]


@pytest.fixture
def build(tiny_config, spread):
    def build(model_class, **options):
        return spread(model_class(tiny_config(**options))).double().train()

    return build


def batch_for(model_class) -> dict[str, torch.Tensor]:
    shape = (2, 3, 10) if model_class is GPT1ForMultipleChoice else (2, 10)
    ids = torch.randint(1, 90, shape, generator=torch.Generator().manual_seed(3))
    if model_class is GPT1ForMultipleChoice:
        ids[:, :, :6] = ids[:, :1, :6]  # so that the choices are packed
    return {"input_ids": ids, "labels": ids if model_class in LANGUAGE_MODELS else torch.tensor([0, 1])}


def loss_of(model, model_class=None) -> torch.Tensor:
    return model(**batch_for(model_class or type(model)), use_cache=False).loss


def cross_entropy(logits: torch.Tensor, ids: torch.Tensor, shift: int) -> torch.Tensor:
    """The language-modeling loss of logits `(batch, length, vocab_size)`, by PyTorch alone."""
    return F.cross_entropy(logits[:, : logits.shape[1] - shift].flatten(0, 1), ids[:, shift:].flatten())


def test_a_plain_head_and_embedding_are_read(build):
    model = build(GPT1ForCausalLM)
    assert is_plain(model.lm_head) and is_plain(model.model.embed_tokens)
    calls = []
    model.lm_head.forward = lambda states: calls.append(1) or F.linear(states, model.lm_head.weight)
    assert not is_plain(model.lm_head)
    loss_of(model)
    assert calls


@pytest.mark.parametrize("model_class", LANGUAGE_MODELS)
@pytest.mark.parametrize("change", ["hook", "pre-hook", "bias", "wrapper", "parametrization"])
def test_the_head_is_called(build, model_class, change):
    """In training and in evaluation, the loss is that of the logits, and these are what the changed head gives."""
    model = build(model_class)
    head, factor = model.lm_head, 1.5
    if change == "hook":
        head.register_forward_hook(lambda module, inputs, logits: factor * logits)
    elif change == "pre-hook":
        head.register_forward_pre_hook(lambda module, inputs: (factor * inputs[0],))
    elif change == "bias":
        head.bias = nn.Parameter(torch.randn(head.out_features).double())
    elif change == "wrapper":
        model.lm_head = nn.Sequential(head, nn.Tanh())
    else:
        parametrize.register_parametrization(head, "weight", nn.Tanh())
    states = model.model(batch_for(model_class)["input_ids"]).last_hidden_state
    plain = states @ model.model.embed_tokens.weight.T
    expected = {
        "hook": lambda: factor * plain,
        "pre-hook": lambda: factor * plain,
        "bias": lambda: plain + head.bias,
        "wrapper": lambda: plain.tanh(),
        "parametrization": lambda: states @ head.weight.T,
    }[change]()
    batch = batch_for(model_class)
    loss = cross_entropy(expected, batch["input_ids"], int(model_class is GPT1ForCausalLM))
    for mode in (model.train, model.eval):
        mode()
        output = model(**batch)
        torch.testing.assert_close(output.logits, expected)
        torch.testing.assert_close(output.loss, loss)
    model.train()
    if change == "bias":
        (gradient,) = torch.autograd.grad(loss_of(model), head.bias)
        torch.testing.assert_close(gradient, torch.autograd.grad(loss, head.bias)[0])


@pytest.mark.parametrize("model_class", [GPT1ForSequenceClassification, GPT1ForMultipleChoice])
def test_the_auxiliary_loss_calls_the_embedding(build, model_class):
    model = build(model_class, num_labels=2)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(1.5)
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, embeddings: 1.5 * embeddings)
    got, expected = (m(**batch_for(model_class)) for m in (model, other))
    torch.testing.assert_close(got.lm_loss, expected.lm_loss)
    torch.testing.assert_close(got.loss, expected.loss)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("options", [{}, {"embedding_dropout_type": "matrix"}], ids=["activations", "matrix"])
def test_neftunes_noise_is_added(build, model_class, options):
    """`neftune_noise_alpha` of `TrainingArguments` is a hook on the embedding, which takes rows of tokens only."""
    model = build(model_class, num_labels=2, **options)
    plain = loss_of(model)
    activate_neftune(model, 0.0)
    torch.testing.assert_close(loss_of(model), plain)
    model.model.embed_tokens.neftune_noise_alpha = 5.0
    assert not torch.isclose(loss_of(model), plain)
    torch.testing.assert_close(loss_of(model.eval()), loss_of(copy.deepcopy(model)))


@pytest.mark.parametrize(
    "model_class, modules",
    [
        (GPT1ForCausalLM, ["qkv_proj", "lm_head"]),
        (GPT1ForMaskedLM, ["qkv_proj", "lm_head"]),
        (GPT1ForSequenceClassification, ["qkv_proj", "embed_tokens"]),
        (GPT1ForMultipleChoice, ["qkv_proj", "embed_tokens"]),
    ],
)
def test_lora_trains_what_it_is_put_on(build, model_class, modules):
    """Every adapter gets a gradient, and the loss is that of the model with the adapters merged into its weights."""
    model = build(model_class, tie_word_embeddings=False, num_labels=2)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=modules, init_lora_weights=False)).double().train()
    loss = loss_of(adapted, model_class)
    loss.backward()
    adapters = [(name, p) for name, p in adapted.named_parameters() if "lora_" in name]
    assert len(adapters) == 2 * (3 + 1)
    for name, parameter in adapters:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    evaluated = loss_of(adapted.eval(), model_class)
    merged = adapted.merge_and_unload()
    assert is_plain(merged.model.embed_tokens)
    torch.testing.assert_close(loss_of(merged.train()), loss)
    torch.testing.assert_close(loss_of(merged.eval()), evaluated)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_weights_give_the_same_loss(build, tmp_path, model_class, where):
    model = build(model_class, num_labels=2)
    expected = {training: loss_of(model.train(training)).detach() for training in (True, False)}
    offloaded = copy.deepcopy(model)
    if where == "cpu":
        accelerate.cpu_offload(offloaded, execution_device="cpu")
    else:
        accelerate.disk_offload(offloaded, tmp_path / "offloaded", execution_device="cpu")
    assert offloaded.model.embed_tokens.weight.is_meta
    for training, loss in expected.items():
        with torch.no_grad():
            torch.testing.assert_close(loss_of(offloaded.train(training)), loss)


@pytest.mark.parametrize("model_class", MODELS)
def test_dynamic_quantization(build, model_class):
    model = build(model_class, num_labels=2).float().eval()
    with torch.no_grad():
        expected = loss_of(model)
        with pytest.warns(DeprecationWarning, match="ao.quantization"):
            quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        loss = loss_of(quantized)
        logits = quantized(**batch_for(model_class)).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(loss, expected, atol=0.2, rtol=0.05)  # 8 bits


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("reshard", [None, True], ids=["", "resharded"])
@pytest.mark.parametrize("apart", [False, True], ids=["root", "embedding apart"])
def test_sharded_parameters(build, one_process, model_class, apart, reshard):
    """FSDP2: the layers, and the embedding or not, are sharded by themselves, the rest with the whole."""
    model = build(model_class, num_labels=2)
    sharded = copy.deepcopy(model)
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=one_process)
    if apart:
        together = [sharded.model.embed_tokens]
        if model_class in LANGUAGE_MODELS:  # tied: sharded together
            together.append(sharded.lm_head)
        fully_shard(together if len(together) > 1 else together[0], mesh=one_process)
    fully_shard(sharded, mesh=one_process, reshard_after_forward=reshard)
    if model_class in LANGUAGE_MODELS:
        expected = model(**batch_for(model_class), skip_logits=False).logits
        torch.testing.assert_close(sharded(**batch_for(model_class)).logits, expected)
    losses = []
    for each in (model, sharded):
        loss = loss_of(each, model_class)
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(losses[1], losses[0])
    expected = dict(model.named_parameters())
    for name, parameter in sharded.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), expected[name].grad, msg=name)


@pytest.mark.parametrize("model_class", MODELS)
def test_partitioned_parameters(build, model_class):
    """ZeRO-3's way: a module's own parameters are empty but while it is called."""
    model = build(model_class, num_labels=2)
    expected = loss_of(model).detach()
    whole = {parameter: parameter.data for parameter in model.parameters()}

    def gather(module, *_):
        for parameter in module.parameters(recurse=False):
            parameter.data = whole[parameter]

    def release(module, *_):
        for parameter in module.parameters(recurse=False):
            parameter.data = whole[parameter].new_empty(0)

    for module in model.modules():
        release(module)
        module.register_forward_pre_hook(gather)
        module.register_forward_hook(release)
    with torch.no_grad():
        torch.testing.assert_close(loss_of(model), expected)


def test_an_engine_runs_the_layers_with_an_attention_of_its_own(tiny_config, spread, monkeypatch):
    """
    What vLLM's backend for transformers asks of a model on one device: it puts several texts into one row, gives the
    embeddings and positions, registers its attention under a name, and finds the state that belongs to a layer among
    the keyword arguments, which have to come through.
    """

    def engine(module, query, key, value, attention_mask, scaling=None, attention_instances=None, **kwargs):
        assert attention_mask is None and module.is_causal
        mask = attention_instances[module.layer_idx]
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
        return output.transpose(1, 2).flatten(0, 1).flatten(1), None  # (tokens, hidden_size)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "engine", engine)
    config = tiny_config()
    expected = spread(AutoModel.from_config(config)).eval()
    config = copy.deepcopy(config)
    config._attn_implementation = "engine"
    model = AutoModel.from_config(config).eval()
    model.load_state_dict(expected.state_dict())
    assert model.is_backend_compatible()

    texts = [torch.randint(1, 90, (1, length)) for length in (5, 9)]
    causal = torch.block_diag(*(torch.ones(text.shape[1], text.shape[1]).tril() for text in texts)).bool()
    got = model(
        input_ids=None,
        inputs_embeds=model.get_input_embeddings()(torch.cat(texts, 1)),
        position_ids=torch.cat([torch.arange(text.shape[1]) for text in texts])[None],
        use_cache=False,
        attention_instances=dict.fromkeys(range(config.num_hidden_layers), causal),
        return_dict=False,
    )[0]
    states = torch.cat([expected(text).last_hidden_state for text in texts], 1)
    torch.testing.assert_close(got, states, atol=1e-5, rtol=1e-5)
