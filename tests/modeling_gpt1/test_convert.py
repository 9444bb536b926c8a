"""Checkpoints in and out: OpenAI's release, openai-gpt, gpt1."""

import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    GenerationConfig,
    OpenAIGPTConfig,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)

from modeling_gpt1 import (
    GPT1Config,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
)
from modeling_gpt1.cli import main
from modeling_gpt1.convert import PARTS, SHAPES, convert
from tokenization import GPT1Tokenizer


pytestmark = pytest.mark.usefixtures("offline")


HEADS = [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity, GPT1ForMultipleChoice]
TEXT = "In a hole in the ground there lived a hobbit."


def release_shapes(positions: int, vocabulary: int, width: int, layers: int) -> list[list[int]]:
    w = width
    block = [[1, w, 3 * w], [3 * w], [1, w, w], [w], [w], [w], [1, w, 4 * w], [4 * w], [1, 4 * w, w], [w], [w], [w]]
    return [[positions, w], [vocabulary, w], *(layers * block)]


def write_parts(directory, shapes) -> np.ndarray:
    size = sum(int(np.prod(shape)) for shape in shapes)
    flat = np.random.default_rng(0).standard_normal(size, dtype=np.float32) * np.float32(0.2)
    for name, part in zip(PARTS, np.array_split(flat, 10), strict=True):
        np.save(directory / name, part)
    (directory / SHAPES).write_text(json.dumps(shapes))
    return flat


@pytest.fixture
def release(tmp_path, small_vocabulary):
    """A small release of random weights in OpenAI's format."""
    directory = tmp_path / "release"
    directory.mkdir()
    for name in ("encoder_bpe_40000.json", "vocab_40000.bpe"):
        (directory / name).write_bytes((small_vocabulary.directory / name).read_bytes())
    shapes = release_shapes(30, small_vocabulary.size, 24, 2)
    return SimpleNamespace(directory=directory, shapes=shapes, flat=write_parts(directory, shapes))


def release_parameters(flat, shapes, special=None) -> tuple[dict, dict]:
    """The reference's `p` and `o` for a release, read off its arrays in their order."""
    offsets = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    arrays = [flat[a:b].reshape(s).astype(float) for a, b, s in zip(offsets, offsets[1:], shapes, strict=False)]
    names = ["W_qkv", "b_qkv", "W_o", "b_o", "g_n", "o_n", "W_1", "b_1", "W_2", "b_2", "g_h", "o_h"]
    blocks = []
    for start in range(2, len(arrays), 12):
        block = dict(zip(names, arrays[start : start + 12], strict=True))
        blocks.append({name: a[0] if a.ndim == 3 else a for name, a in block.items()})
    tokens = arrays[1] if special is None else np.concatenate((arrays[1], special))
    options = {
        "position_embedding_type": "learned",
        "norm_position": "post",
        "is_causal": True,
        "attention_window": None,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": 12,
    }
    return {"W_e": tokens, "W_p": arrays[0], "blocks": blocks}, options


def test_release_gives_the_references_logits(release, tmp_path, reference, agree):
    message = convert(release.directory, tmp_path / "out")
    assert "GPT1ForCausalLM" in message and "with its tokenizer" in message
    model = GPT1ForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float64).eval()
    special = model.get_input_embeddings().weight[-4:].detach().numpy()
    assert 0.01 < special.std() < 0.03
    p, o = release_parameters(release.flat, release.shapes, special)
    tokenizer = GPT1Tokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(TEXT)["input_ids"][:30]
    agree("release: logits", model(torch.tensor([ids])).logits[0], reference.token_logits(p, o, ids))
    config, n = model.config, len(p["W_e"])
    assert (config.bos_token_id, config.sep_token_id, config.cls_token_id, config.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.sep_token_id,
        tokenizer.cls_token_id,
        tokenizer.pad_token_id,
    )
    assert config.bos_token_id == n - 4 and len(tokenizer) == n == config.vocab_size
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {"modeling_gpt1.py", "generation_config.json"}
    # The same seed gives the same rows, another one others; the rest is what was published.
    for seed, same in ((42, True), (7, False)):
        convert(release.directory, tmp_path / f"seed{seed}", seed=seed)
        again = load_file(tmp_path / f"seed{seed}" / "model.safetensors")["model.embed_tokens.weight"]
        assert torch.equal(again[-4:].double(), model.get_input_embeddings().weight[-4:]) is same
        assert torch.equal(again[:-4].double(), model.get_input_embeddings().weight[:-4])


def test_release_to_openai_gpt_and_back_is_bit_equal(release, tmp_path):
    convert(release.directory, tmp_path / "direct")
    convert(release.directory, tmp_path / "theirs", to="openai-gpt")
    convert(tmp_path / "theirs", tmp_path / "back")
    direct, back = (load_file(tmp_path / name / "model.safetensors") for name in ("direct", "back"))
    assert direct.keys() == back.keys() and all(torch.equal(direct[name], back[name]) for name in direct)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_through_openai_gpt_is_bit_equal(tiny_config, spread, tmp_path, small_vocabulary, dtype):
    options = {"lm_coef": 0.3, "classifier_dropout": 0.2, "embedding_dropout_type": "matrix", "resid_pdrop": 0.05}
    size = small_vocabulary.size + 4
    model = spread(GPT1ForCausalLM(tiny_config(vocab_size=size, **options))).to(dtype).eval()
    model.save_pretrained(tmp_path / "ours")
    files = [small_vocabulary.directory / name for name in ("vocab.json", "merges.txt")]
    GPT1Tokenizer.from_openai(*files).save_pretrained(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--to", "openai-gpt"]) == 0

    peer = OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "theirs")
    assert peer.dtype == dtype
    ids = torch.randint(size, (2, 20))
    logits = peer.double().eval()(ids).logits
    torch.testing.assert_close(logits, model.double()(ids).logits, atol=1e-9, rtol=0)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")) is OpenAIGPTLMHeadModel
    assert not list((tmp_path / "theirs").glob("*.py"))

    assert main(["convert", str(tmp_path / "theirs"), str(tmp_path / "back")]) == 0
    ours, back = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "back"))
    assert ours.keys() == back.keys() and all(torch.equal(ours[name], back[name]) for name in ours)
    configs = [GPT1Config.from_pretrained(tmp_path / name).to_dict() for name in ("ours", "back")]
    for config in configs:
        config.pop("_name_or_path", None)
    assert configs[0] == configs[1]

    # by its name an adapter finds it again; and it generates as it did
    generation = GenerationConfig.from_pretrained(tmp_path / "theirs")
    generation.update(repetition_penalty=1.5)
    generation.save_pretrained(tmp_path / "theirs")
    loaded = GPT1ForCausalLM.from_pretrained(tmp_path / "theirs")
    assert loaded.name_or_path == loaded.config.name_or_path == str(tmp_path / "theirs")
    assert loaded.generation_config.repetition_penalty == 1.5
    expected = GPT1Tokenizer.from_pretrained(tmp_path / "ours")(TEXT)["input_ids"]
    for name in ("theirs", "back"):
        assert AutoTokenizer.from_pretrained(tmp_path / name)(TEXT)["input_ids"] == expected


def test_transformers_alone_reads_what_was_converted(release, tmp_path):
    """In a process that knows neither package."""
    convert(release.directory, tmp_path / "theirs", to="openai-gpt")
    convert(release.directory, tmp_path / "ours")
    code = (
        "import json, sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = (a.from_pretrained(sys.argv[1]) for a in (AutoModelForCausalLM, AutoTokenizer))\n"
        "ids = tokenizer(sys.argv[2])['input_ids'][:30]\n"
        "assert not {'modeling_gpt1', 'tokenization'} & set(sys.modules)\n"
        "print(json.dumps([ids, model.eval()(torch.tensor([ids])).logits[0, -1].tolist()]))"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "theirs"), TEXT]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    ids, logits = json.loads(run.stdout.splitlines()[-1])
    assert ids == GPT1Tokenizer.from_pretrained(tmp_path / "ours")(TEXT)["input_ids"][:30]
    ours = GPT1ForCausalLM.from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(torch.tensor(logits), ours(torch.tensor([ids])).logits[0, -1], atol=1e-5, rtol=0)


@pytest.fixture
def openai_gpt(tmp_path, spread, small_vocabulary):
    """Writes a random openai-gpt checkpoint of a class, with or without its vocabulary."""

    def write(model_class=OpenAIGPTLMHeadModel, vocabulary=True, as_bin=False, prefix=True, **kwargs):
        shape = {"vocab_size": small_vocabulary.size, "n_positions": 30, "n_embd": 32, "n_layer": 2, "n_head": 4}
        model = spread(model_class(OpenAIGPTConfig(**(shape | kwargs)))).eval()
        directory = tmp_path / "peer"
        model.save_pretrained(directory)
        if as_bin:
            (directory / "model.safetensors").unlink()
            state_dict = dict((model if prefix else model.transformer).state_dict())
            if not prefix:  # checkpoints of 2018 to 2020 hold the causal mask as well
                state_dict["h.0.attn.bias"] = torch.ones(1, 1, 30, 30).tril()
            torch.save(state_dict, directory / "pytorch_model.bin")
        if vocabulary:
            for name in ("vocab.json", "merges.txt"):
                (directory / name).write_bytes((small_vocabulary.directory / name).read_bytes())
        return model, directory

    return write


@pytest.mark.parametrize("as_bin, prefix", [(False, True), (True, True), (True, False)])
def test_openai_gpt_language_model(openai_gpt, tmp_path, agree, as_bin, prefix):
    peer, directory = openai_gpt(as_bin=as_bin, prefix=prefix)
    assert main(["convert", str(directory), str(tmp_path / "out"), "--seed", "3"]) == 0
    model = GPT1ForCausalLM.from_pretrained(tmp_path / "out").eval()
    size = peer.config.vocab_size
    assert model.config.vocab_size == size + 4 and model.config.pad_token_id == size + 3
    assert model.generation_config.pad_token_id == size + 3
    ids = torch.randint(size, (2, 20))
    loaded = GPT1ForCausalLM.from_pretrained(directory).eval()
    agree("openai-gpt in float32: logits", loaded(ids).logits, peer(ids).logits, 1e-5)
    agree("openai-gpt in float64: logits", loaded.double()(ids).logits, peer.double()(ids).logits)
    agree("openai-gpt converted, float64: logits", model.double()(ids).logits[..., :size], peer(ids).logits)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == size + 4


def test_openai_gpt_vocabulary_inside_tokenizer_json(openai_gpt, tmp_path, small_vocabulary):
    _, directory = openai_gpt(vocabulary=False)
    files = [small_vocabulary.directory / name for name in ("vocab.json", "merges.txt")]
    expected = GPT1Tokenizer.from_openai(*files)
    expected.save_pretrained(directory)
    assert "with its tokenizer" in convert(directory, tmp_path / "out")
    assert GPT1Tokenizer.from_pretrained(tmp_path / "out")(TEXT) == expected(TEXT)


def test_openai_gpt_without_a_vocabulary(openai_gpt, tmp_path, capsys):
    _, directory = openai_gpt(vocabulary=False)
    assert main(["convert", str(directory), str(tmp_path / "out")]) == 0
    assert f"without a tokenizer: {directory} has none" in capsys.readouterr().out
    assert not (tmp_path / "out" / "tokenizer.json").exists()


@pytest.mark.parametrize(
    "peer_class",
    [OpenAIGPTModel, OpenAIGPTLMHeadModel, OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification],
)
@pytest.mark.parametrize("ours", [GPT1Model, GPT1ForCausalLM, GPT1ForMaskedLM, *HEADS])
def test_every_class_loads_every_openai_gpt(openai_gpt, tmp_path, peer_class, ours):
    peer, directory = openai_gpt(peer_class, num_labels=3)
    model, info = ours.from_pretrained(directory, output_loading_info=True)
    peer_decoder = peer if peer_class is OpenAIGPTModel else peer.transformer
    decoder = (model if ours is GPT1Model else model.model).eval()
    decoder.config.is_causal = True
    ids = torch.randint(peer.config.vocab_size, (2, 15))
    if ours is not GPT1ForMaskedLM:
        torch.testing.assert_close(decoder(ids)[0], peer_decoder(ids)[0], atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(decoder.embed_tokens.weight, peer_decoder.tokens_embed.weight)
    kept = (peer_class is OpenAIGPTDoubleHeadsModel and ours is GPT1ForMultipleChoice) or (
        peer_class is OpenAIGPTForSequenceClassification and ours in HEADS[:3]
    )
    drawn = {name for name in info["missing_keys"] if name.startswith("score")}
    assert set(info["missing_keys"]) == drawn
    expected = set() if ours not in HEADS else {"score.weight", "score.bias"}
    if kept:
        expected = set() if ours is GPT1ForMultipleChoice else {"score.bias"}  # openai-gpt's classification has none
    assert drawn == expected
    # What is saved is this package's own format, projections not transposed.
    model.save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert not [name for name in saved if "transformer" in name or "c_attn" in name]
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in saved.items())
    again = ours.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    "peer_class, ours",
    [
        (OpenAIGPTModel, GPT1ForCausalLM),
        (OpenAIGPTDoubleHeadsModel, GPT1ForMultipleChoice),
        (OpenAIGPTForSequenceClassification, GPT1ForSequenceClassification),
    ],
)
def test_openai_gpt_converts_with_its_head(openai_gpt, tmp_path, agree, peer_class, ours):
    peer, directory = openai_gpt(peer_class)
    convert(directory, tmp_path / "out")
    model = ours.from_pretrained(tmp_path / "out").double().eval()
    assert model.config.architectures == [ours.__name__]
    assert model.config.vocab_size == peer.config.vocab_size + 4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("in the end")["input_ids"]
    is_task = ours is not GPT1ForCausalLM
    assert (ids[-1] == tokenizer.cls_token_id) is is_task
    ids = torch.tensor([[word for word in ids if word < peer.config.vocab_size]])  # openai-gpt has no special tokens
    if ours is GPT1ForMultipleChoice:
        got, expected = model(ids[None]).logits, peer.double()(ids[None]).mc_logits
    elif is_task:
        got, expected = model(ids).logits, peer.double()(ids).logits
    else:
        got, expected = model.model(ids)[0], peer.double()(ids)[0]
    agree("openai-gpt converted with its head, float64", got, expected)


def test_multiple_choice_to_double_heads_and_back(tiny_config, spread, tmp_path, agree):
    model = spread(GPT1ForMultipleChoice(tiny_config())).double().eval()
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="openai-gpt")
    peer = OpenAIGPTDoubleHeadsModel.from_pretrained(tmp_path / "theirs").eval()
    ids = torch.randint(90, (2, 3, 11))
    last = torch.full((2, 3), 10)
    agree("DoubleHeads: logits", peer(ids, mc_token_ids=last).mc_logits, model(ids).logits)
    convert(tmp_path / "theirs", tmp_path / "back")
    back = GPT1ForMultipleChoice.from_pretrained(tmp_path / "back")
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True))
    with pytest.raises(ValueError, match="multiple-choice head other than"):
        config = json.loads((tmp_path / "theirs" / "config.json").read_text())
        (tmp_path / "theirs" / "config.json").write_text(json.dumps(config | {"summary_activation": "tanh"}))
        convert(tmp_path / "theirs", tmp_path / "other")


@pytest.mark.parametrize("head", [GPT1ForSequenceClassification, GPT1ForEntailment])
def test_classification_to_openai_gpt(tiny_config, spread, tmp_path, agree, head):
    model = spread(head(tiny_config(num_labels=3, id2label={0: "no", 1: "maybe", 2: "yes"}))).double().eval()
    assert model.score.bias.abs().min() > 0
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="openai-gpt")
    peer = OpenAIGPTForSequenceClassification.from_pretrained(tmp_path / "theirs").eval()
    ids = torch.randint(90, (2, 11))
    ids[1, 8:] = model.config.pad_token_id
    agree("classification in openai-gpt: logits", peer(ids).logits, model(ids).logits)
    assert peer.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    convert(tmp_path / "theirs", tmp_path / "back")
    back = GPT1ForSequenceClassification.from_pretrained(tmp_path / "back").eval()
    agree("classification there and back: logits", back(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm_position": "pre"}, "norm_position='pre'"),
        ({"position_embedding_type": "sinusoidal"}, "position_embedding_type='sinusoidal'"),
        ({"attention_window": 5}, "attention_window=5"),
        ({"intermediate_size": 64}, "intermediate_size=64"),
        ({"hidden_act": "tanh"}, "hidden_act='tanh'"),
    ],
)
def test_what_openai_gpt_cannot_express_is_refused(tiny_config, tmp_path, capsys, options, message):
    GPT1ForCausalLM(tiny_config(**options)).save_pretrained(tmp_path / "ours")
    refused(capsys, tmp_path, tmp_path / "ours", message, "--to", "openai-gpt")


@pytest.mark.parametrize("ours, message", [(GPT1ForSimilarity, "GPT1ForSimilarity"), (GPT1ForMaskedLM, "is_causal")])
def test_heads_that_openai_gpt_does_not_have_are_refused(tiny_config, tmp_path, capsys, ours, message):
    ours(tiny_config()).save_pretrained(tmp_path / "ours")
    refused(capsys, tmp_path, tmp_path / "ours", message, "--to", "openai-gpt")


def refused(capsys, tmp_path, source, message, *flags):
    """Exit status 1, one line that says why, and nothing written."""
    before = {path.name for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert main(["convert", str(source), str(tmp_path / "out"), *flags]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpt1 convert: ")]
    assert len(lines) == 1 and message in lines[0], lines
    assert {path.name for path in tmp_path.iterdir()} == before


def pickled(path):
    path.write_bytes(pickle.dumps([1.0, 2.0]))


def objects(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3, np.float32))


DAMAGE = {
    "a missing part": ("params_4.npy", lambda path: path.unlink(), "params_4.npy is missing"),
    "a truncated part": (
        "params_9.npy",
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        "params_9.npy is no .npy file of numbers, or a truncated one",
    ),
    "an empty part": ("params_0.npy", lambda path: path.write_bytes(b""), "params_0.npy is no .npy file"),
    "a longer part": (
        "params_0.npy",
        lambda path: path.write_bytes(path.read_bytes() + b"1234"),
        "params_0.npy is longer than its header says",
    ),
    "a pickle": ("params_2.npy", pickled, "params_2.npy is no .npy file of numbers"),
    "a pickle in an array": ("params_2.npy", objects, "params_2.npy is no .npy file of numbers"),
    "an archive": ("params_2.npy", archive, "params_2.npy holds an archive"),
    "another type": ("params_1.npy", lambda path: np.save(path, np.zeros(9)), "holds float64 (9,)"),
    "another length": (
        "params_1.npy",
        lambda path: np.save(path, np.zeros(9, np.float32)),
        "the parts hold",
    ),
    "no shapes": (SHAPES, lambda path: path.unlink(), f"{SHAPES} is missing"),
    "shapes that are none": (SHAPES, lambda path: path.write_text('{"a": 1}'), "no list of shapes"),
    "shapes that are no JSON": (SHAPES, lambda path: path.write_text("[[1, 2"), "is no JSON"),
    "too few shapes": (
        SHAPES,
        lambda path: path.write_text(json.dumps(json.loads(path.read_text())[:-1])),
        "does not list positions, tokens and 12 arrays for each layer",
    ),
    "shapes that do not match": (
        SHAPES,
        lambda path: path.write_text(path.read_text().replace("[1, 24, 24]", "[1, 24, 25]", 1)),
        "array 4 has the shape (1, 24, 25) where (1, 24, 24) was expected",
    ),
    "more positions than there are": (
        SHAPES,
        lambda path: path.write_text(path.read_text().replace("[30, 24]", "[99999999999999, 24]", 1)),
        "the parts hold",
    ),
    "no vocabulary": ("encoder_bpe_40000.json", lambda path: path.unlink(), "encoder_bpe_40000.json is missing"),
    "no merges": ("vocab_40000.bpe", lambda path: path.unlink(), "vocab_40000.bpe is missing"),
    "another vocabulary": (
        "encoder_bpe_40000.json",
        lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"zz</w>": 60})),
        "has 61 entries, the weights are for 60",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_release_is_refused(release, tmp_path, capsys, damage):
    name, do, message = DAMAGE[damage]
    do(release.directory / name)
    refused(capsys, tmp_path, release.directory, message)


def test_a_damaged_openai_gpt_is_refused(openai_gpt, tmp_path, capsys):
    _, directory = openai_gpt()
    config_file, weights = directory / "config.json", directory / "model.safetensors"
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(config | {"afn": "mish"}))
    refused(capsys, tmp_path, directory, "unknown activation 'mish'")
    config_file.write_text(json.dumps(config | {"n_layer": 3}))
    refused(capsys, tmp_path, directory, "have num_hidden_layers 2, the configuration 3")
    config_file.write_text(json.dumps(config))
    vocab = (directory / "vocab.json").read_text()
    (directory / "vocab.json").write_text(json.dumps(json.loads(vocab) | {"zz</w>": 60}))
    refused(capsys, tmp_path, directory, "has 61 entries, the weights are for 60")
    (directory / "vocab.json").write_text(vocab)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    refused(capsys, tmp_path, directory, "model.safetensors is damaged")
    weights.unlink()
    refused(capsys, tmp_path, directory, "no file named model.safetensors")
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps({"run": print}))
    refused(capsys, tmp_path, directory, "pickled with more than tensors")


def test_other_sources_and_targets_are_refused(release, tiny_config, tmp_path, capsys):
    refused(capsys, tmp_path, tmp_path / "nowhere", "no checkpoint at")
    (tmp_path / "empty").mkdir()
    refused(capsys, tmp_path, tmp_path / "empty", "holds no checkpoint")
    BertConfig().save_pretrained(tmp_path / "bert")
    refused(capsys, tmp_path, tmp_path / "bert", "is a bert checkpoint")
    GPT1ForCausalLM(tiny_config()).save_pretrained(tmp_path / "ours")
    refused(capsys, tmp_path, tmp_path / "ours", "is a gpt1 checkpoint already")
    refused(capsys, tmp_path, release.directory, "Seed", "--seed", "-1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    refused(capsys, tmp_path, release.directory, "out is not empty")
    (tmp_path / "out" / "file").unlink()
    assert main(["convert", str(release.directory), str(tmp_path / "out")]) == 0
    with pytest.raises(SystemExit) as exit_info:
        main(["convert", str(release.directory), str(tmp_path / "new"), "--to", "gpt3"])
    assert exit_info.value.code == 2


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_nothing_half_written_stays(release, tmp_path, monkeypatch, error):
    def fail(self, directory, **kwargs):
        (directory / "tokenizer.json").write_text("{")
        raise error

    monkeypatch.setattr(GPT1Tokenizer, "save_pretrained", fail)
    status = 1 if isinstance(error, OSError) else 130
    assert main(["convert", str(release.directory), str(tmp_path / "out")]) == status
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


MEASURE = """
import re, sys
from modeling_gpt1.convert import convert
done = convert(sys.argv[1], sys.argv[2])
# not ru_maxrss, which the process has from the one that started it
print(done, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], sep="\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's peak memory in KiB")
def test_full_size_release_in_little_memory(tmp_path, data_dir):
    """117M random parameters in OpenAI's shapes and with its vocabulary: the process stays 2 GB above the weights."""
    release = tmp_path / "release"
    release.mkdir()
    for name in (SHAPES, "encoder_bpe_40000.json", "vocab_40000.bpe"):
        (release / name).write_bytes((data_dir / "openai_bpe" / name).read_bytes())
    flat = write_parts(release, json.loads((release / SHAPES).read_text()))
    assert flat.size == 116_534_784
    command = [sys.executable, "-c", MEASURE, str(release), str(tmp_path / "out")]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    message, peak = run.stdout.splitlines()[-2:]
    assert "116,537,856 parameters" in message
    assert int(peak) * 1024 < flat.nbytes + 2e9
    saved = load_file(tmp_path / "out" / "model.safetensors")
    positions = 512 * 768
    assert np.array_equal(saved["model.embed_positions.weight"].numpy().ravel(), flat[:positions])
    assert np.array_equal(
        saved["model.embed_tokens.weight"].numpy()[:-4].ravel(), flat[positions : positions + 40_478 * 768]
    )
    last = saved["model.layers.11.mlp.down_proj.weight"].numpy().T.ravel()
    assert np.array_equal(last, flat[-len(last) - 3 * 768 : -3 * 768])


def test_papers_size():
    with torch.device("meta"):
        model = GPT1ForCausalLM(GPT1Config(vocab_size=40_478))
    assert sum(parameter.numel() for parameter in model.parameters()) == 116_534_784
