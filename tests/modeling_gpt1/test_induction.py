"""`gpt1 analyze induction`: figures that are known beforehand, and how the command writes them and goes on."""

import json
import math

import pytest
import torch

from modeling_gpt1 import GPT1ForCausalLM
from modeling_gpt1.analysis import induction
from modeling_gpt1.cli import main
from tokenization import GPT1Tokenizer


LENGTH = 8


@pytest.fixture
def model(tiny_config):
    """Two layers of two heads, as wide as a sequence said twice has positions."""
    config = tiny_config(num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=2 * LENGTH)
    return GPT1ForCausalLM._from_config(config, attn_implementation="eager").eval()


def test_heads_that_look_at_all_alike_have_the_uniform_score(model):
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.qkv_proj.weight)
    found = induction.measure(model, LENGTH, sequences=3, batch_size=2)
    # the tokens said again stand at positions 9 to 15, and see 9 to 15 tokens
    expected = sum(1 / seen for seen in range(LENGTH + 1, 2 * LENGTH)) / (LENGTH - 1)
    assert found["uniform_score"] == pytest.approx(expected)
    torch.testing.assert_close(torch.tensor(found["scores"]), torch.full((2, 2), expected))


def test_a_head_made_to_look_things_up_has_a_score_of_one(model):
    width, head = model.config.hidden_size, model.config.hidden_size // 2
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
        model.model.embed_positions.weight.copy_(torch.eye(2 * LENGTH, width))
        attention.qkv_proj.weight.zero_()
        query, key, _ = attention.qkv_proj.weight.split(width)
        for position in range(LENGTH - 1):  # the first head's query at length + i is its key at i + 1
            query[position + 1, LENGTH + position] = 1e3
        key[:head, :head] = torch.eye(head)
    scores = induction.measure(model, LENGTH, sequences=2)["scores"]
    assert scores[0][0] == pytest.approx(1)
    assert scores[0][1] < 0.2


def test_losses_are_those_of_the_same_tokens_said_twice(model, spread):
    spread(model)
    found = induction.measure(model, LENGTH, sequences=5, batch_size=2, seed=3)
    halves = induction.random_tokens(model, 5, LENGTH, 3)
    ids = torch.cat((halves, halves), dim=1)
    with torch.inference_mode():
        log_probabilities = model(ids).logits.double().log_softmax(-1)
    said = {"first_loss": [], "second_loss": []}
    for row in range(5):
        for position in range(1, LENGTH):
            for time, name in enumerate(said):
                at = time * LENGTH + position
                said[name].append(-log_probabilities[row, at - 1, halves[row, position]].item())
    for name, losses in said.items():
        assert found[name] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_tokens_are_drawn_from_all_but_the_special_ones(model):
    special = {0, *range(96, 100)}
    ids = induction.random_tokens(model, 200, 50, 0)
    assert set(ids.flatten().tolist()) == set(range(100)) - special


@pytest.fixture
def checkpoints(tmp_path, tiny_config):
    """Two language models, and the flags of a short analysis."""
    tokenizer = GPT1Tokenizer()
    for name in ("one", "two"):
        GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer))).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    flags = ["--output_dir", str(tmp_path / "out"), "--length", "16", "--sequences", "2"]
    return [str(tmp_path / "one"), str(tmp_path / "two")], flags


def test_the_command_writes_json_table_and_picture_and_goes_on(checkpoints, tmp_path, capsys, monkeypatch):
    (one, two), flags = checkpoints
    assert main(["analyze", "induction", "--model", one, *flags]) == 0
    first = json.loads((tmp_path / "out/induction.json").read_text())
    measured = []
    monkeypatch.setattr(induction, "_measure", lambda name, args: measured.append(name) or first["found"][one])
    capsys.readouterr()
    assert main(["analyze", "induction", "--model", two, *flags]) == 0
    assert measured == [two]
    table = (tmp_path / "out/induction.md").read_text()
    assert capsys.readouterr().out == table
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| one", "| two"]
    # a model that knows nothing: each of 40,338 tokens alike
    assert first["found"][one]["first_loss"] == pytest.approx(math.log(40_338), abs=0.2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"induction.{kind}" for kind in ("json", "md", "png")
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--length", "33"], "--length must be at most 32"),
        (["--length", "1"], "--length must be at least 2"),
        (["--sequences", "0"], "--sequences must be at least 1"),
        (["--model", "nothing/here/at all"], "no checkpoint at"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(checkpoints, tmp_path, capfd, flags, message):
    (one, _), good = checkpoints
    assert main(["analyze", "induction", "--model", one, *good, *flags]) == 1
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_other_findings_do_not_mix(checkpoints, tmp_path, capfd):
    (one, two), flags = checkpoints
    assert main(["analyze", "induction", "--model", one, *flags]) == 0
    assert main(["analyze", "induction", "--model", two, *flags, "--seed", "1"]) == 1
    assert "other settings" in capfd.readouterr().err
    (tmp_path / "out/induction.json").write_text("[")
    assert main(["analyze", "induction", "--model", one, *flags]) == 1
    assert "holds no findings" in capfd.readouterr().err


@pytest.mark.parametrize("wrong", [["analyze"], ["analyze", "nothing"], ["analyze", "induction"]])
def test_wrong_usage_exits_with_2(wrong):
    with pytest.raises(SystemExit) as exit:
        main(wrong)
    assert exit.value.code == 2
