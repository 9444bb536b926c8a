"""The page of `gpt1 demo` and of a Space: its answers are the model's, of every head, and mistakes are told."""

import re
import socket
import sys
import time
from html import unescape

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import MaskedLMOutput

from modeling_gpt1 import (
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
    score,
)
from modeling_gpt1.cli import main
from modeling_gpt1.convert import to_openai_gpt
from tokenization import GPT1Tokenizer


gr = pytest.importorskip("gradio", reason="the page needs gradio")
from hub_upload.app import AUTO_CLASSES, App, page  # noqa: E402, which needs gradio


TEXT = "It was a bright cold day in April"
LANGUAGE_MODELS = (GPT1ForCausalLM, GPT1DoubleHeadsModel, GPT1ForMaskedLM, GPT1Model)


@pytest.fixture
def make_app(tiny_config, spread):
    """Builds the app of a tiny model."""

    def build(model_class, **settings) -> App:
        tokenizer = GPT1Tokenizer(task_format=model_class not in LANGUAGE_MODELS)
        if model_class is GPT1ForMaskedLM:
            tokenizer.add_special_tokens({"mask_token": "[MASK]"})
        config = tiny_config(vocab_size=len(tokenizer), num_hidden_layers=2, **settings)
        return App(spread(model_class(config)), tokenizer, model_class.__name__)

    return build


def rows(app: App, *texts: str) -> torch.Tensor:
    return torch.tensor([app.tokenizer(*texts)["input_ids"]])


def test_the_head_decides_on_the_tabs(make_app, auto_classes):
    assert {model_class.__name__: name for model_class, name in auto_classes.items()} == AUTO_CLASSES
    own = {
        GPT1ForCausalLM: ["Generate"],
        GPT1ForMaskedLM: ["Fill in"],
        GPT1ForSequenceClassification: ["Classify"],
        GPT1ForEntailment: ["Entailment"],
        GPT1ForSimilarity: ["Similarity"],
        GPT1ForMultipleChoice: ["Choose"],
        GPT1DoubleHeadsModel: ["Choose"],
        GPT1Model: [],
    }
    assert own.keys() == auto_classes.keys()
    for model_class, tabs in own.items():
        blocks = page(make_app(model_class), "a name")
        assert not blocks.analytics_enabled
        found = [block.label for block in blocks.blocks.values() if isinstance(block, gr.Tab)]
        assert found == [*tabs, "Tokens", "Attention"]
        for answer in blocks.fns.values():  # what each button shows of the texts that stand there
            if answer.fn is not None:
                given = answer.fn(*(block.value for block in answer.inputs))
                assert [*given] if answer.api_name == "generate" else given is not None


def test_generation_grows_to_what_the_model_generates(make_app):
    app = make_app(GPT1ForCausalLM)
    ids = rows(app, TEXT)
    for sampling in ({}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9}):
        torch.manual_seed(1)
        expected = app.model.generate(ids, max_new_tokens=12, do_sample=bool(sampling), **sampling)[0]
        torch.manual_seed(1)
        texts = [*app.generate(TEXT, 12, *(sampling or {"temperature": 0, "top_k": 50, "top_p": 1.0}).values())]
        assert len(texts) == 12 and texts[-1].startswith(TEXT)
        assert texts[-1].removeprefix(TEXT) == app.tokenizer.decode(expected).removeprefix(
            app.tokenizer.decode(ids[0])
        )
        assert all(later.startswith(text.rstrip()) for text, later in zip(texts, texts[1:], strict=False))


def test_a_stopped_generation_ends(make_app):
    app = make_app(GPT1ForCausalLM)
    passes = []
    app.model.register_forward_hook(lambda *_: passes.append(time.sleep(0.02)))
    running = app.generate(TEXT, 50, 0, 0, 1.0)
    next(running)
    running.close()
    ended = len(passes)
    assert ended < 50
    time.sleep(0.1)
    assert len(passes) == ended


def test_what_fails_while_generating_is_raised(make_app):
    app = make_app(GPT1ForCausalLM)
    with pytest.raises(ValueError, match="temperature"):
        list(app.generate(TEXT, 5, -1.0, 0, 1.0))


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1DoubleHeadsModel])
def test_surprisals_are_those_of_score(make_app, model_class):
    app = make_app(model_class)
    table = score(app.model, app.tokenizer, [TEXT + "\nHe sat."], unit="token")
    names, ids, bits = zip(*app.tokens(TEXT + "\nHe sat."), strict=True)
    assert [name.replace("↵", "\n") for name in names] == table["token"].tolist() and "↵</w>" in names
    assert list(ids) == rows(app, TEXT + "\nHe sat.")[0].tolist()
    assert bits[0] is None
    np.testing.assert_allclose(bits[1:], table["surprisal"][1:], atol=6e-4)  # three digits are shown


def test_tokens_of_a_task_are_those_that_its_head_reads(make_app):
    app = make_app(GPT1ForEntailment)
    pair = app.tokens("A man sleeps.", "_start_ He wakes.")  # the name of a special token is text
    assert [name for name, _ in pair].count("_start_") == 1
    assert (pair[0][0], pair[-1][0]) == ("_start_", "_classify_") and all(len(row) == 2 for row in pair)


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification", "regression"])
@pytest.mark.parametrize("model_class", [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity])
def test_probabilities_are_those_of_a_forward_pass(make_app, model_class, problem_type):
    labels = {} if problem_type == "regression" else {"id2label": {0: "no", 1: "perhaps", 2: "yes"}}
    settings = {"num_labels": 1} if problem_type == "regression" else {}
    app = make_app(model_class, problem_type=problem_type, **settings, **labels)
    texts = (TEXT,) if model_class is GPT1ForSequenceClassification else (TEXT, "It was warm.")
    logits = app.model(rows(app, *texts)).logits[0]
    answer = app.classify(*texts)
    if problem_type == "regression":
        assert answer == pytest.approx(logits.item())
        return
    expected = logits.sigmoid() if problem_type else logits.softmax(-1)
    assert answer == pytest.approx(dict(zip(("no", "perhaps", "yes"), expected.tolist(), strict=True)))


@pytest.mark.parametrize("model_class", [GPT1ForMultipleChoice, GPT1DoubleHeadsModel])
def test_choices_are_weighed_as_each_by_itself(make_app, model_class):
    app = make_app(model_class)
    answers = ["It broke.", "It sang a long and merry song.", "No."]
    scores = []
    for answer in answers:
        outputs = app.model(rows(app, TEXT, answer)[None])
        scores.append(outputs[1 if model_class is GPT1DoubleHeadsModel else 0].item())
    expected = torch.tensor(scores).softmax(-1).tolist()
    given = app.choose(TEXT, "\n".join(["", *answers, f" {answers[0]} "]))
    assert given == pytest.approx(dict(zip(answers, expected, strict=True)), rel=1e-4)


def test_a_mask_is_filled_by_the_likeliest(make_app):
    app = make_app(GPT1ForMaskedLM)
    ids = rows(app, "A man [MASK] here.")
    best = app.model(ids).logits[0, ids[0].tolist().index(app.tokenizer.mask_token_id)].argmax()
    name, share = next(iter(app.fill("A man [MASK] here.").items()))
    assert name == app.tokenizer.convert_ids_to_tokens(best.item()).removesuffix("</w>") and 0 < share < 1


def test_what_looks_alike_is_one_answer(make_app, monkeypatch):
    app = make_app(GPT1ForMaskedLM)
    within, whole = app.tokenizer.convert_tokens_to_ids(["man", "man</w>"])
    ids = rows(app, "A [MASK] here.")
    logits = torch.zeros(1, ids.shape[1], len(app.tokenizer))
    logits[..., within], logits[..., whole] = 20, 19
    monkeypatch.setattr(app.model, "forward", lambda *_, **__: MaskedLMOutput(logits=logits))
    assert app.fill("A [MASK] here.")["man"] == pytest.approx(1, abs=1e-3)


def test_the_pictures_show_the_attentions_of_the_layer(make_app):
    app = make_app(GPT1ForSimilarity)
    texts = ("A man sleeps.", "He wakes.")
    figures = app.attention(1, *texts).split("<figure>")[1:]
    weights = app.model.model(rows(app, *texts), output_attentions=True).attentions[0][0]
    assert len(figures) == len(weights) == 4
    for figure, head in zip(figures, weights, strict=True):
        titles = [float(title) for title in re.findall(r"→ .*?: ([\d.]+)</title>", figure)]
        expected = head[head >= 0.01]
        np.testing.assert_allclose(titles, expected.tolist(), atol=6e-3)  # two digits are shown
        names = [unescape(text) for text in re.findall(r'text-anchor="end">(.*?)</text>', figure)]
        assert names == ["_start_", "a", "man", "sleeps", ".", "_delimiter_", "he", "wakes", ".", "_classify_"]


@pytest.mark.parametrize(
    "model_class, ask, said",
    [
        (GPT1ForCausalLM, lambda app: list(app.generate(" \n", 5, 0, 0, 1.0)), "Enter a text."),
        (
            GPT1ForCausalLM,
            lambda app: list(app.generate("a " * 60, 5, 0, 0, 1.0)),
            "60 tokens, of which 59 fit",
        ),
        (GPT1ForCausalLM, lambda app: app.tokens("\x00"), "the tokenizer keeps nothing"),
        (GPT1ForCausalLM, lambda app: app.tokens("a " * 65), "Too long: 65 tokens, of which 64 fit."),
        (GPT1ForCausalLM, lambda app: app.attention(1, "a " * 41), "Too long: 41 tokens, of which 40 fit."),
        (GPT1ForSequenceClassification, lambda app: app.classify("a " * 63), "Too long: 65 tokens, of which 64 fit."),
        (GPT1ForEntailment, lambda app: app.classify("a", ""), "Enter both texts."),
        (GPT1ForMultipleChoice, lambda app: app.choose("a", "one\n\none "), "Enter two different answers or more"),
        (GPT1ForMaskedLM, lambda app: app.fill("no mask"), "Write [MASK] for the word"),
    ],
)
def test_mistakes_are_told_in_a_line(make_app, model_class, ask, said):
    with pytest.raises(gr.Error) as raised:
        ask(make_app(model_class))
    assert said in raised.value.message and "\n" not in raised.value.message and not raised.value.print_exception


def test_a_model_in_the_format_of_openai_gpt_is_shown_as_well(make_app, tmp_path):
    app = make_app(GPT1ForCausalLM)
    to_openai_gpt(app.model).save_pretrained(tmp_path)
    app.tokenizer.save_pretrained(tmp_path)
    theirs = App.load(str(tmp_path), "GPT1ForCausalLM", trust_remote_code=False)
    assert type(theirs.model).__name__ == "OpenAIGPTLMHeadModel"
    assert theirs.tokens(TEXT) == app.tokens(TEXT)
    assert theirs.attention(2, TEXT) == app.attention(2, TEXT)
    assert [*theirs.generate(TEXT, 5, 0, 0, 1.0)] == [*app.generate(TEXT, 5, 0, 0, 1.0)]


def test_the_command_serves_the_page_to_this_machine_alone(make_app, tmp_path, monkeypatch, capsys):
    from gradio_client import Client

    app = make_app(GPT1ForEntailment)
    app.model.save_pretrained(tmp_path / "mine")
    app.tokenizer.save_pretrained(tmp_path / "mine")
    asked, called, connect = [], set(), socket.socket.connect

    def record(self, address):
        called.add(address[0])
        return connect(self, address)

    def visit(blocks):
        import httpx

        site = httpx.get(blocks.local_url).text + httpx.get(f"{blocks.local_url}theme.css").text
        site = site.replace(blocks.local_url, "/")
        asked.extend(re.findall(r"""(?:<script[^>]+src=|<link[^>]+href=|url\()["']?(?:https?:)?//[^"')]+""", site))
        client = Client(blocks.local_url, verbose=False)
        answer = client.predict(TEXT, "It was warm.", api_name="/classify")
        expected = app.classify(TEXT, "It was warm.")
        assert {each["label"]: each["confidence"] for each in answer["confidences"]} == pytest.approx(
            expected, rel=1e-4
        )
        with pytest.raises(Exception, match="Enter both texts"):
            client.predict(TEXT, "", api_name="/classify")
        blocks.close(verbose=False)

    monkeypatch.setattr(socket.socket, "connect", record)
    monkeypatch.setattr(gr.Blocks, "block_thread", visit)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")  # as it is where nobody has said otherwise
    assert main(["demo", "--model", str(tmp_path / "mine")]) == 0
    assert re.fullmatch(r"http://127.0.0.1:\d+/ shows \S+mine; Ctrl-C ends it\n", capsys.readouterr().out)
    assert asked == [] and called <= {"127.0.0.1", "localhost"} and called


def test_a_port_that_is_taken_and_a_missing_gradio_are_one_line_each(make_app, tmp_path, monkeypatch, capsys):
    app = make_app(GPT1Model)
    app.model.save_pretrained(tmp_path)
    app.tokenizer.save_pretrained(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--model", str(tmp_path), "--host", "localhost", "--port", str(port)]) == 1
    expected = f"gpt1 demo: nothing can be served at localhost, port {port}: give another one\n"
    assert capsys.readouterr().err.endswith(expected)
    monkeypatch.delitem(sys.modules, "hub_upload.app")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == 'gpt1 demo: the page needs gradio: pip install "gpt1[demo]"\n'
