"""Names that strangers choose, for a checkpoint that somebody passes on: none leaves the place where it lands."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import hub_upload
from hub_upload.model_card import make_card, read_facts
from hub_upload.space import write_space
from modeling_gpt1 import GPT1Model
from modeling_gpt1.cli import _recorded
from tokenization import GPT1Tokenizer, markdown
from tokenization.report import write_card


HOSTILE = [
    '"); __import__("os").system("id") #',
    "'''\n\"\"\"\nimport os; os.system('id')",
    "</code><script>alert(1)</script>",
    "![x](https://evil.example/x.png)[y](javascript:alert(1))",
    "a | b\n| --- | --- |\n| accuracy | 1.0000 |",
    "```\n# Not from here\n````sh\nid\n```",
    "`id` \\` <!-- ",
    "---\nlicense: other\nbase_model: evil/evil\n---\n",
    "{{ 7 * 7 }} {% raw %} $repo_id {name}",
    "x: y\n- z: &a *a !!python/object/apply:os.system ['id']",
    "\u202e\x1b[31m\x00\u2028end",
]


def parts(card: str) -> tuple[dict, str, str]:
    """The front matter, the Markdown outside of fences, and the Python snippet, read as CommonMark reads them."""
    _, front, body = re.split(r"^---\n", card, maxsplit=2, flags=re.M)
    outside, inside, fence, language = [], {}, None, ""
    for line in body.split("\n"):
        found = re.fullmatch(r"(`{3,})(\w*)", line)
        if fence is None and found:
            fence, language = found[1], found[2]
        elif fence is not None and found and not found[2] and len(found[1]) >= len(fence):
            fence = None
        elif fence is None:
            outside.append(line)
        else:
            inside.setdefault(language, []).append(line)
    assert fence is None
    return yaml.safe_load(front), "\n".join(outside), "\n".join(inside["python"])


def strings(code: str) -> set[str]:
    return {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}


def shape(code: str) -> str:
    """A program without its strings: whatever these say, it must stay the same."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = ""
    return ast.dump(tree)


@pytest.fixture
def card(tmp_path):
    """The card of a checkpoint in which every name that a stranger may choose is this one."""

    def make(name: str, architecture: str):
        config = {
            "architectures": [architecture],
            "num_hidden_layers": 1,
            "hidden_size": 8,
            "num_attention_heads": 1,
            "id2label": {"0": name, "1": "b"},
            "auto_map": {},
        }
        facts = {
            "task": name,
            "corpus": name,
            "base_model": name,
            "dataset": name,
            "settings": {name: name},
            "command": name,
            "sample": name,
            "tags": [name],
        }
        files = {
            "config.json": config,
            "tokenizer_config.json": {"mask_token": name},
            "card.json": facts,
            "all_results.json": {f"eval_{name}_accuracy": 0.5, f"eval_{name}_loss": 0.5},
        }
        for file, content in files.items():
            (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
        return make_card(tmp_path, tmp_path, read_facts(tmp_path), name).read_text(encoding="utf-8")

    return make


@pytest.mark.parametrize("architecture", ["GPT1ForSequenceClassification", "GPT1ForMaskedLM", "GPT1ForMultipleChoice"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_holds_names_as_names(card, architecture, name):
    front, outside, snippet = parts(card(name, architecture))
    plain_front, plain, plain_snippet = parts(card("plain name", architecture))
    assert shape(snippet) == shape(plain_snippet)
    assert name in strings(snippet)
    # the front matter has the same keys, and no more of them
    assert front.keys() == plain_front.keys() and front["license"] == "mit" and name in front["tags"]
    assert front["model-index"][0]["name"] == name
    # outside of code: as many lines, no tag, no link and no code that the plain card does not have
    assert len(outside.split("\n")) == len(plain.split("\n"))
    escapes_and_spans = r"\\[\\`*\[\]<>|~&]|(`+)(?!`).*?(?<!`)\1(?!`)"  # from left to right, as CommonMark reads
    bare, bare_plain = (re.sub(escapes_and_spans, "", part) for part in (outside, plain))
    for mark in "<>[]`|*":
        assert bare.count(mark) == bare_plain.count(mark), mark


@pytest.mark.parametrize("name", HOSTILE)
def test_the_card_of_a_tokenizer_too(tmp_path, name):
    folder = tmp_path / name.replace("/", "").replace("\x00", "")
    folder.mkdir()
    report = {"merges": 1, "last_merge": name}
    write_card(folder, report, markdown.code(name), name)
    _, outside, snippet = parts((folder / "README.md").read_text(encoding="utf-8"))
    (tmp_path / "plain").mkdir()
    write_card(tmp_path / "plain", report | {"last_merge": "a b"}, markdown.code("plain"), "plain")
    _, plain, plain_snippet = parts((tmp_path / "plain" / "README.md").read_text(encoding="utf-8"))
    assert shape(snippet) == shape(plain_snippet) and folder.name in strings(snippet)
    assert len(outside.split("\n")) == len(plain.split("\n"))
    (row,) = [line for line in outside.split("\n") if line.startswith("| last merge ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


@pytest.mark.parametrize("name", HOSTILE)
def test_a_space_holds_names_as_names(tmp_path, name):
    config = {"architectures": ["GPT1ForSequenceClassification"], "id2label": {"0": name, "1": "b"}, "auto_map": {}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    texts = {
        repo_id: {
            path.name: path.read_text(encoding="utf-8")
            for path in write_space(tmp_path, tmp_path, repo_id, tmp_path / str(number)).values()
        }
        for number, repo_id in enumerate((name, "user/plain"))
    }
    hostile, plain = texts[name], texts["user/plain"]
    assert hostile["app.py"] == plain["app.py"] == (Path(hub_upload.__file__).parent / "app.py").read_text("utf-8")
    assert json.loads(hostile["model.json"]) == json.loads(plain["model.json"]) | {"model": name}
    _, front, body = re.split(r"^---\n", hostile["README.md"], maxsplit=2, flags=re.M)
    _, plain_front, plain_body = plain["README.md"].split("---\n")
    front = yaml.safe_load(front)
    assert front.keys() == yaml.safe_load(plain_front).keys()
    assert front["license"] == "mit" and front["models"] == [name] and front["app_file"] == "app.py"
    assert body == plain_body.replace("`user/plain`", markdown.code(name))


class Tags(HTMLParser):
    """The elements of some markup, and its text."""

    def __init__(self, markup: str):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, *(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_holds_names_as_names(tiny_config, name):
    gr = pytest.importorskip("gradio", reason="the page needs gradio")
    from hub_upload.app import App, page, picture

    model = GPT1Model(tiny_config(num_hidden_layers=1))
    blocks = page(App(model, None, "GPT1Model"), name).blocks.values()
    (heading,) = [block.value for block in blocks if isinstance(block, gr.HTML) and block.value]
    assert (Tags(heading).elements, Tags(heading).text) == ([("h1",)], name)
    hostile, plain = (Tags(picture([each, "b</w>"], [[1.0, 0.0], [0.5, 0.5]])) for each in (name, "plain"))
    assert hostile.elements == plain.elements and name[:12].split("\x00")[0] in hostile.text


@pytest.mark.parametrize("text", ["a`b``c", "`", "``", "a\nb", "", "````"])
def test_code_is_closed_by_its_own_ticks(text):
    span = markdown.code(text)
    ticks = re.match("`+", span)[0] if text.strip("`") else span[: (len(span) - len(text.strip())) // 2].strip()
    assert ticks not in text and span.endswith(ticks) and "\n" not in span
    fence = markdown.block(text, "text").split("\n")
    assert fence[0].removesuffix("text") == fence[-1] and fence[-1] not in text


def test_a_recorded_command_tells_neither_logins_nor_places(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "my-own-token")
    arguments = ["--corpus", "/home/me/novels", "a b.txt", "~/more", "--hub_token", "hf_secret", "--hub-token=hf_more"]
    arguments += ["--output_dir=/data/out", "--tokenizer", "../tokens", "--prompt", "my-own-token", "hf_" + "A" * 30]
    assert _recorded("pretrain", arguments) == (
        "gpt1 pretrain --corpus novels 'a b.txt' more --output_dir=out --tokenizer ../tokens --prompt [token] [token]"
    )


def test_the_vocabulary_of_a_stranger_panics_in_one_line(tmp_path, monkeypatch, capfd):
    """`tokenizers` is written in Rust, whose panics are no `Exception`."""
    from tokenizers import Tokenizer

    from modeling_gpt1.cli import main

    class PanicException(BaseException):
        pass

    def panic(*_):
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(Tokenizer, "from_file", panic, raising=False)
    monkeypatch.setattr("tokenization.tokenization_gpt1.Tokenizer.from_file", panic)
    with pytest.raises(PanicException):
        GPT1Tokenizer()
    assert main(["generate", "--model", "gpt1-mini", "--prompt", "a"]) == 1
    assert capfd.readouterr().err == "gpt1 generate: called `Option::unwrap()` on a `None` value\n"
