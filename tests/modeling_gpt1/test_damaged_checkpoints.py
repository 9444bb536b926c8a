# ruff: noqa: E501, a row of the table is a line
"""Checkpoints that are not what they seem: one line that says what is wrong, before anything is allocated or written."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from modeling_gpt1 import GPT1ForCausalLM, GPT1ForSequenceClassification
from modeling_gpt1.cli import main
from modeling_gpt1.inference import Predictor
from modeling_gpt1.loading import check_finite
from tokenization import GPT1Tokenizer


pytestmark = pytest.mark.usefixtures("offline")


def configure(**fields):
    """A damage: other fields in config.json; None takes one out."""

    def damage(directory: Path) -> None:
        file = directory / "config.json"
        config = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))

    return damage


def weigh(change):
    """A damage: another tensor or another set of them in model.safetensors."""

    def damage(directory: Path) -> None:
        weights = load_file(directory / "model.safetensors")
        change(weights)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})

    return damage


def spoil(name: str, value: float):
    def change(weights) -> None:
        weights[name].view(-1)[3] = value

    return weigh(change)


def lose(*names: str):
    return weigh(lambda weights: [weights.pop(name) for name in names])


def relabel(old: str, new: str):
    """A damage: the header says another kind of number of the same size."""

    def damage(directory: Path) -> None:
        file = directory / "model.safetensors"
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        assert old.encode() in content[8 : 8 + length] and len(old) == len(new)
        file.write_bytes(
            content[:8] + content[8 : 8 + length].replace(old.encode(), new.encode()) + content[8 + length :]
        )

    return damage


def write(name: str, content: str | bytes):
    def damage(directory: Path) -> None:
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def index(**weight_map: str):
    """A damage: an index in place of the one file."""

    def damage(directory: Path) -> None:
        (directory / "model.safetensors").rename(directory.parent / "outside.safetensors")
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return damage


def take(*names: str):
    def damage(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return damage


def small_vocabulary(directory: Path) -> None:
    GPT1Tokenizer.from_vocabulary({"<unk>": 0, "a</w>": 1}, []).save_pretrained(directory)


def longer_vocabulary(directory: Path) -> None:
    tokenizer = GPT1Tokenizer()
    tokenizer.add_tokens(["<speaker>"])
    tokenizer.save_pretrained(directory)


EMBEDDING, NORM = "model.embed_tokens.weight", "model.layers.0.attn_norm.bias"

# What is wrong, the damage, and what the one line must say
DAMAGED = [
    ("NaN", spoil(NORM, float("nan")), f"{NORM} holds NaN or infinite numbers"),
    ("an infinite weight", spoil(EMBEDDING, float("inf")), f"{EMBEDDING} holds NaN or infinite numbers"),
    ("minus infinity", spoil("model.layers.0.mlp.up_proj.weight", -float("inf")), "model.layers.0.mlp.up_proj.weight holds NaN or infinite numbers"),
    ("a tensor is missing", lose(NORM), f"lacks 1 of its parameters, {NORM} for one"),
    ("integers for weights", relabel("F32", "I32"), "is said to be I32 where float32 were expected"),
    ("a cut file", lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-9]), "model.safetensors is damaged"),
    ("no safetensors", write("model.safetensors", b"\x80\x04K\x01."), "model.safetensors is damaged"),
    ("an empty file of weights", write("model.safetensors", b""), "model.safetensors is damaged"),
    ("a shard outside", index(**{EMBEDDING: "../outside.safetensors"}), "names a file outside its folder: ../outside.safetensors"),
    ("a shard anywhere", index(**{EMBEDDING: "/etc/passwd"}), "names a file outside its folder: /etc/passwd"),
    ("an index of nothing", write("config.json", "{"), "config.json"),
    ("a million layers", configure(num_hidden_layers=1_000_000), "have num_hidden_layers 1, the configuration 1,000,000"),
    ("a billion layers", configure(num_hidden_layers=1_000_000_000), "have num_hidden_layers 1, the configuration 1,000,000,000"),
    ("no layers", configure(num_hidden_layers=0), "num_hidden_layers must be at least 1, got 0"),
    ("less than no layers", configure(num_hidden_layers=-3), "num_hidden_layers must be at least 1, got -3"),
    ("a fraction of layers", configure(num_hidden_layers=1.5), "num_hidden_layers"),
    ("a word for the layers", configure(num_hidden_layers="twelve"), "num_hidden_layers"),
    ("a layer too many", configure(num_hidden_layers=2), "have num_hidden_layers 1, the configuration 2"),
    ("a huge vocabulary", configure(vocab_size=10**12), "have vocab_size 40,338, the configuration 1,000,000,000,000"),
    ("another width", configure(hidden_size=16), "have hidden_size 8, the configuration 16"),
    ("huge positions", configure(max_position_embeddings=10**10), "have max_position_embeddings 32, the configuration 10,000,000,000"),
    ("another inner width", configure(intermediate_size=10**10), "have intermediate_size 32, the configuration 10,000,000,000"),
    ("heads that do not divide", configure(num_attention_heads=3), "must be a multiple of num_attention_heads (3)"),
    ("an unknown activation", configure(hidden_act="gellu"), "unknown activation 'gellu' (hidden_act)"),
    ("an unknown block", configure(norm_position="sideways"), "norm_position"),
    ("a billion labels", configure(num_labels=1_000_000_000, id2label=None, label2id=None), "num_labels must lie between 1 and 1,000,000, got 1000000000"),
    ("no labels", configure(num_labels=0, id2label=None, label2id=None), "num_labels must lie between 1 and 1,000,000, got 0"),
    ("a gap in the labels", configure(id2label={"0": "a", "2": "b"}), "id2label must number its classes from 0 without a gap, got 0, 2"),
    ("labels of one name", configure(id2label={"0": "a", "1": "a"}), "id2label has two classes of the name 'a'"),
    ("words for the numbers", configure(id2label={"a": 0, "b": 1}), "id2label must number its classes from 0 without a gap, got a, b|Field 'id2label' with value {'a': 0, 'b': 1} doesn't match"),
    ("a list of labels", configure(id2label=["a", "b"]), "id2label must be an object of numbers and names|Field 'id2label' expected a dict, got list"),
    ("another kind of model", configure(architectures=["BertModel"]), "holds BertModel: a gpt1 checkpoint is needed"),
    ("no name of a head", configure(architectures=[3]), "architectures must be a list of names, got [3]|Field 'architectures' with value [3] doesn't match"),
    ("a text for the list of heads", configure(architectures="GPT1Model"), "architectures must be a list of names, got 'GPT1Model'|Field 'architectures' expected a list, got str"),
    ("no tokenizer", take("tokenizer.json"), "has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"),
    ("half a vocabulary", lambda d: (take("tokenizer.json")(d), write("vocab.json", "{}")(d)), "has no tokenizer"),
    ("a smaller vocabulary", small_vocabulary, "has 6 entries, the weights are for 40,338"),
    ("a longer vocabulary", longer_vocabulary, "has 40,339 entries, the weights are for 40,338"),
    ("a broken tokenizer", write("tokenizer.json", '{"version": "1.0"}'), "model cannot be read: KeyError('added_tokens')"),
    ("no weights", take("model.safetensors"), "model.safetensors"),
    ("no configuration", take("config.json"), "holds no checkpoint: it has no config.json"),
]  # fmt: skip
OF_A_HEAD = [
    ("no head", configure(architectures=[]), "holds a model of another kind: a gpt1 checkpoint is needed"),
    ("more labels than the head", configure(id2label={str(i): f"c{i}" for i in range(5)}, label2id=None), "have num_labels 2, the configuration 5: start from a model without a task head, or of as many"),
    ("half a head", lose("score.bias"), "lacks 1 of its parameters, score.bias for one"),
    ("a head of NaN", spoil("score.weight", float("nan")), "score.weight holds NaN or infinite numbers"),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A language model and a classifier, tiny and whole."""
    directory = tmp_path_factory.mktemp("whole")
    tokenizer = GPT1Tokenizer()
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for name, model_class in {"language": GPT1ForCausalLM, "classifier": GPT1ForSequenceClassification}.items():
        config = model_class.config_class(vocab_size=len(tokenizer), max_position_embeddings=32, **shape)
        model_class(config).save_pretrained(directory / name)
        tokenizer.task_format = name == "classifier"
        tokenizer.save_pretrained(directory / name)
    (directory / "data.csv").write_text("text,label\na,LABEL_0\nb,LABEL_1\nc,LABEL_0\nd,LABEL_1\n")
    return directory


@pytest.fixture
def refused(whole, tmp_path, capfd):
    """
    Damages a copy and runs a command on it, which must say one line with this message, soon, and leave nothing. After
    a bar: what huggingface_hub says instead in the versions, 1.5 for one, that check the types of a field before us.
    """

    def check(kind: str, damage, arguments: str, message: str) -> None:
        directory = shutil.copytree(whole / kind, tmp_path / "model")
        damage(directory)
        words = [
            {"MODEL": str(directory), "OUT": str(tmp_path / "out"), "DATA": str(whole / "data.csv")}.get(w, w)
            for w in arguments.split()
        ]
        assert main(words) == 1
        captured = capfd.readouterr()
        said = [line for line in captured.err.splitlines() if line and not line.startswith("Tokenizing")]
        assert len(said) == 1 and said[0].startswith(f"gpt1 {words[0]}: "), captured.err
        assert any(part in said[0] for part in message.split("|")), captured.err
        assert captured.out == "" and not (tmp_path / "out").exists()

    return check


@pytest.mark.parametrize("damage, message", [row[1:] for row in DAMAGED], ids=[row[0] for row in DAMAGED])
def test_generate_refuses(refused, damage, message):
    refused("language", damage, "generate --model MODEL --prompt a", message)


@pytest.mark.parametrize("damage, message", [row[1:] for row in OF_A_HEAD], ids=[row[0] for row in OF_A_HEAD])
def test_predict_refuses(refused, damage, message):
    refused("classifier", damage, "predict --model MODEL --text a", message)


OTHERS = {
    "predict": ("classifier", "predict --model MODEL --text a"),
    "finetune": ("classifier", "finetune --model MODEL --task classification --train_file DATA --output_dir OUT"),
    "convert": ("classifier", "convert MODEL OUT --to openai-gpt"),
    "push": ("classifier", "push MODEL user/model --dry_run"),
    "pretrain": ("language", "pretrain --model MODEL --corpus DATA --output_dir OUT"),
}


@pytest.mark.parametrize("command", OTHERS)
@pytest.mark.parametrize("damage, message", [row[1:] for row in DAMAGED if row[0] in ("NaN", "a longer vocabulary", "a billion layers")], ids=["NaN", "layers", "vocabulary"])  # fmt: skip
def test_so_does_every_command(refused, command, damage, message):
    refused(*OTHERS[command][:1], damage, OTHERS[command][1], message)


def test_the_other_half_precision_is_refused(whole, tmp_path, capfd):
    model = GPT1ForCausalLM.from_pretrained(whole / "language", dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    GPT1Tokenizer().save_pretrained(tmp_path)
    relabel('"BF16"', '"F16" ')(tmp_path)
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a"]) == 1
    assert "is said to be F16 where bfloat16 were expected" in capfd.readouterr().err


def test_an_answer_that_is_not_finite_is_none(refused):
    """Weights that are finite may still overflow."""
    damage = weigh(lambda weights: weights["score.weight"].fill_(3e38))
    refused("classifier", damage, "predict --model MODEL --text a", "answer to the data, row 1 is not finite")


def test_an_answer_that_is_not_finite_is_told_from_those_beside_it(whole):
    """A batch begins with the longest row."""
    predictor = Predictor(str(whole / "classifier"))
    bad = predictor.tokenizer("bad", add_special_tokens=False).input_ids
    with torch.no_grad():
        predictor.model.get_input_embeddings().weight[bad] = torch.nan
    with pytest.raises(FloatingPointError, match="answer to the data, row 2 is not finite"):
        predictor(Dataset.from_dict({"text": ["some good text", "bad"]}))


@pytest.mark.parametrize("rows, message", [(64, None), (1, "entries, the weights are for")])
def test_rows_that_no_token_has_are_customary(whole, tmp_path, capfd, rows, message):
    """To make the embedding's rows a multiple of 64; where the special tokens moved, the vocabulary is another one."""
    model = GPT1ForCausalLM.from_pretrained(whole / "language")
    tokenizer = GPT1Tokenizer.from_pretrained(whole / "language")
    model.resize_token_embeddings(len(tokenizer) + 1, pad_to_multiple_of=rows)
    if message:
        model.config.pad_token_id += 1
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a"]) == (1 if message else 0)
    assert message is None or message in capfd.readouterr().err


def test_a_check_of_all_weights_costs_little():
    model = torch.nn.ModuleList(torch.nn.Linear(1000, 1000) for _ in range(4))
    check_finite(model, "it")
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        check_finite(model.to(dtype), "it")
        with torch.no_grad():
            model[3].bias[7] = float("nan")
        with pytest.raises(ValueError, match=r"it is damaged: 3\.bias holds NaN"):
            check_finite(model, "it")
        with torch.no_grad():
            model[3].bias[7] = 0


def test_whole_ones_are_whole(whole, tmp_path, capfd):
    assert main(["generate", "--model", str(whole / "language"), "--prompt", "a", "--max_new_tokens", "2"]) == 0
    assert main(["predict", "--model", str(whole / "classifier"), "--text", "a"]) == 0
    assert main(["convert", str(whole / "classifier"), str(tmp_path / "out"), "--to", "openai-gpt"]) == 0
