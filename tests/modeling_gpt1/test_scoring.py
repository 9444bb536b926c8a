"""Surprisal and features: what one forward a word in float64 gives, with spans that lead back to the text."""

import json
import math

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, GPT1ForMaskedLM, features, optimize_for_inference, score
from modeling_gpt1.cli import main
from modeling_gpt1.scoring import read_input
from tokenization import GPT1Tokenizer
from tokenization.table_files import TableArguments


pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "Well, no: the dog didn't bark (not once); it's dead.",
    "She'll've paid $3,000.50, or 12.5 % of £24,004, in 1889.",
    "A café in Zürich: naïve, déjà vu… “quoted” — and so on!",
    "I 😀 you 👍🏽 and 🏳️‍🌈, 한국 too.",
    "one",
    "Mr. O'Neil's co-op-mates can't, won't, shan't; e.g., http://www.example.com/a?b=c#d!",
    "A longer text, of more tokens than the tiny model takes at a time. " * 3,
]
LONGEST = 32


@pytest.fixture(scope="module")
def tokenizer():
    return GPT1Tokenizer()


@pytest.fixture
def models(tmp_path, tiny_config, spread, tokenizer):
    """By kind, a model as it is used, and one in float64 to hold against it: any that maps ids to logits."""

    def build(kind: str) -> tuple[GPT1ForCausalLM, torch.nn.Module]:
        if kind in ("openai-gpt", "transformers"):
            shape = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": LONGEST, "vocab_size": len(tokenizer)}
            theirs = spread(OpenAIGPTLMHeadModel(OpenAIGPTConfig(**shape)).eval())
            theirs.tie_weights()
            theirs.save_pretrained(tmp_path / kind)
            used = theirs if kind == "transformers" else GPT1ForCausalLM.from_pretrained(tmp_path / kind)
            return used, OpenAIGPTLMHeadModel.from_pretrained(tmp_path / kind).double()
        options = {"pre-norm": {"norm_position": "pre"}, "window": {"attention_window": 5}}.get(kind, {})
        config = tiny_config(vocab_size=len(tokenizer), max_position_embeddings=LONGEST, **options)
        ours = spread(GPT1ForCausalLM(config)).eval()
        ours.save_pretrained(tmp_path / kind)
        return ours, GPT1ForCausalLM.from_pretrained(tmp_path / kind).double()

    return build


@pytest.fixture
def model(models):
    return models("gpt1")[0]


@torch.no_grad()
def bits_of(reference, ids: list[int], before: list[int], context: int, stride: int) -> list[float]:
    """Of each token of `ids` after `before` and the others, each in a pass of its own; NaN where there are none."""
    ids, bits = before + ids, []
    for place in range(len(before), len(ids)):
        start = next(start for start in range(0, len(ids), stride) if place < start + context)
        assert start == 0 or place - start >= context - stride
        if place == 0:
            bits.append(math.nan)
            continue
        logits = reference(torch.tensor([ids[start:place]])).logits[0, -1]
        bits.append(-logits.log_softmax(-1)[ids[place]].item() / math.log(2))
    return bits


def words_by_prefix(tokenizer, text: str) -> list[tuple[str, list[int]]]:
    """Each word with its tokens, without offsets: what the text up to its end has beyond the text up to its start."""
    words, before, end = [], [], 0
    for word in text.split():
        end = text.index(word, end) + len(word)
        ids = tokenizer(text[:end])["input_ids"]
        assert ids[: len(before)] == before
        words.append((word, ids[len(before) :]))
        before = ids
    return words


KINDS = ["gpt1", "pre-norm", "window", "openai-gpt", "transformers"]


@pytest.mark.parametrize("first", ["none", "line-break"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_a_loop_of_one_pass_per_token_in_float64(kind, first, models, tokenizer, agree):
    model, reference = models(kind)
    before = tokenizer.convert_tokens_to_ids(["\n</w>"]) if first == "line-break" else []
    table = score(model, tokenizer, TEXTS, first=first, context=20, stride=8, batch_size=3)
    tokens = score(model, tokenizer, TEXTS, unit="token", first=first, context=20, stride=8)
    for index, text in enumerate(TEXTS):
        words = words_by_prefix(tokenizer, text)
        bits = bits_of(reference, [token for _, ids in words for token in ids], before, 20, 8)
        rows = table[table["text_index"] == index]
        assert rows["word"].tolist() == [word for word, _ in words]
        assert rows["num_tokens"].tolist() == [len(ids) for _, ids in words]
        ends = np.cumsum([0, *(len(ids) for _, ids in words)])
        sums = np.asarray([sum(bits[a:b]) for a, b in zip(ends, ends[1:], strict=False)])
        assert rows["conditioned"].tolist() == (~np.isnan(sums)).tolist()
        agree("surprisal of words, in bits", np.nan_to_num(rows["surprisal"]), np.nan_to_num(sums), 1e-4)
        of_text = tokens[tokens["text_index"] == index]
        agree("surprisal of tokens, in bits", np.nan_to_num(of_text["surprisal"]), np.nan_to_num(bits), 1e-4)
        assert np.isnan(rows["surprisal"]).tolist() == [first == "none", *[False] * (len(words) - 1)]


@pytest.mark.parametrize("context, stride", [(32, 16), (32, 31), (2, 1), (7, 3), (None, None)])
def test_every_window_scores_each_token_once(context, stride, models, tokenizer, agree):
    model, reference = models("gpt1")
    words = ["the", "cat", "sat", "on", "a", "mat"] * 20
    # lengths about the edges of windows
    texts = [" ".join(words[:length]) for length in (1, 2, 7, 8, 10, 11, 31, 32, 33, 48, 49, 64, 65, 100)]
    table = score(model, tokenizer, texts, context=context, stride=stride)
    for index, text in enumerate(texts):
        bits = bits_of(reference, tokenizer(text)["input_ids"], [], context or 32, stride or 16)
        rows = table[table["text_index"] == index]
        agree("surprisal in windows, in bits", np.nan_to_num(rows["surprisal"]), np.nan_to_num(bits), 1e-4)


def test_neither_batches_nor_what_comes_later_matter(model, tokenizer, agree):
    whole = score(model, tokenizer, TEXTS, batch_size=100)
    for size in (1, 2, 3):
        some = score(model, tokenizer, TEXTS, batch_size=size)
        agree("batches of other sizes, in bits", *(np.nan_to_num(t["surprisal"]) for t in (some, whole)), 1e-4)
    later = score(model, tokenizer, [text + " and more of it" * 20 for text in TEXTS])
    later = later.merge(whole, on=["text_index", "word_index"])
    same = later[later["word_x"] == later["word_y"]]
    assert len(same) == len(whole)
    agree("with later text, in bits", *(np.nan_to_num(same[f"surprisal_{side}"]) for side in "xy"), 1e-4)


def test_perplexity_is_the_exponential_of_the_models_loss(model, tokenizer):
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    table = score(model, tokenizer, TEXTS[:1])
    assert table.attrs["perplexity_per_token"] == pytest.approx(model(ids, labels=ids).loss.exp().item(), rel=1e-4)
    assert table.attrs["tokens"] == ids.numel() - 1 and table.attrs["words"] == len(TEXTS[0].split()) - 1
    assert table.attrs["bits_per_word"] == pytest.approx(table["surprisal"][1:].mean())
    assert table.attrs["perplexity_per_word"] == pytest.approx(2 ** table["surprisal"][1:].mean())
    assert score(model, tokenizer, TEXTS[:1], unit="token").attrs == table.attrs
    assert score(model, tokenizer, ["one"]).attrs["bits_per_word"] is None
    no_blanks = score(model, tokenizer, ["the " + "字" * 200])
    assert no_blanks.attrs["perplexity_per_word"] == math.inf


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("Don't stop.", ["Do", "n't", "stop", "."]),
        ("It’s “odd”—so…", ["It", "’s", "“", "odd", "”", "—", "so", "…"]),
        ("I 😀 it", ["I", "😀", "it"]),
        ("\ufeff\x01 a man", ["a", "man"]),
        ("ﬁne ＡＢ", ["ﬁne", "ＡＢ"]),
        ("a\nman", ["a", "\n", "man"]),
    ],
)
def test_spans_are_of_the_original_text(text, pieces, model, tokenizer):
    tokens = score(model, tokenizer, [text], unit="token")
    assert [text[start:end] for start, end in zip(tokens["start"], tokens["end"], strict=True)] == pieces


def test_a_line_break_is_a_token_of_no_word(model, tokenizer):
    tokens = score(model, tokenizer, ["a man\nand a\r\ndog"], unit="token")
    assert tokens["word_index"].fillna(-1).tolist() == [0, 1, -1, 2, 3, -1, 4]
    words = score(model, tokenizer, ["a man\nand a\r\ndog"])
    assert words["num_tokens"].tolist() == [1] * 5
    kept = tokens["word_index"].notna()
    assert words["surprisal"].tolist()[1:] == tokens["surprisal"][kept].tolist()[1:]


def test_special_tokens_in_a_text_are_text(model, tokenizer):
    special = {tokenizer.convert_ids_to_tokens(index) for index in tokenizer.all_special_ids} - {"<unk>"}
    tokens = score(model, tokenizer, ["say _classify_ and <pad> _start_"], unit="token")
    assert not special & set(tokens["token"])
    for_tasks = GPT1Tokenizer(task_format=True)
    assert score(model, for_tasks, ["say _classify_"])["num_tokens"].tolist() == [1, 4]


def test_texts_without_words_have_no_rows(model, tokenizer):
    table = score(model, tokenizer, ["", "a b", " \t\n", "c"], first="line-break")
    assert table[["text_index", "word_index"]].to_numpy().tolist() == [[1, 0], [1, 1], [3, 0]]
    for texts in ([], ["", " "]):
        assert len(score(model, tokenizer, texts)) == len(score(model, tokenizer, texts, unit="token")) == 0
        rows, states = features(model, tokenizer, texts, layers=[0, 2])
        assert len(rows) == 0 and states.shape == (0, 2, 32)


@pytest.fixture(scope="module")
def lasting_model(tokenizer):
    """One model for all of hypothesis's examples."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = GPT1Config(vocab_size=len(tokenizer), max_position_embeddings=8, initializer_range=0.3, **shape)
    return GPT1ForCausalLM(config)


ODD_CHARACTERS = "ab.'\"&;<>-$ \n\t\r\x00\x01\x0b\x1c\x1b\x85\xa0\u2028\u3000\u0301\ufeff\ud83d\ude00ÃÂ©â€™"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text(st.one_of(st.characters(), st.sampled_from(ODD_CHARACTERS)), max_size=30), max_size=4),
    first=st.sampled_from(["none", "line-break"]),
)
def test_any_text(texts, first, lasting_model, tokenizer):
    words, tokens = (score(lasting_model, tokenizer, texts, unit=unit, first=first) for unit in ("word", "token"))
    for index, text in enumerate(texts):
        rows, of_text = (table[table["text_index"] == index] for table in (words, tokens))
        assert rows["word"].tolist() == text.split()
        assert [text[start:end] for start, end in zip(rows["start"], rows["end"], strict=True)] == text.split()
        assert ((of_text["start"] >= 0) & (of_text["start"] <= of_text["end"]) & (of_text["end"] <= len(text))).all()
        in_words = of_text[of_text["word_index"].notna()]
        assert rows["num_tokens"].sum() == len(in_words)
        assert rows["surprisal"].sum(skipna=False) == pytest.approx(
            in_words["surprisal"].sum(skipna=False), nan_ok=True
        )
        unconditioned = of_text.index[:1] if first == "none" else []
        assert of_text.index[of_text["surprisal"].isna()].tolist() == list(unconditioned)
        assert (of_text["conditioned"] == of_text["surprisal"].notna()).all()
        assert (rows["conditioned"] == rows["surprisal"].notna()).all()
        # what is in no word is nothing but blanks
        for start, end in zip(
            *(of_text[side][of_text["word_index"].isna()] for side in ("start", "end")), strict=True
        ):
            assert not text[start:end].strip()


def test_the_head_is_called_a_few_rows_at_a_time(model, tokenizer, monkeypatch, agree):
    whole = score(model, tokenizer, TEXTS)
    monkeypatch.setattr("modeling_gpt1.scoring.CHUNK", 7)
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, logits: rows.append(len(logits)) or 2 * logits)
    doubled = score(model, tokenizer, TEXTS[:1])
    hook.remove()
    assert max(rows) == 7
    ids = torch.tensor(tokenizer(TEXTS[0])["input_ids"])
    with torch.no_grad():
        logits = 2 * model(ids[None]).logits[0, :-1]
    bits = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum") / math.log(2)
    assert doubled.attrs["bits_per_token"] * (len(ids) - 1) == pytest.approx(bits.item(), rel=1e-5)
    chunks = score(model, tokenizer, TEXTS)
    agree("chunks of logits, in bits", *(np.nan_to_num(t["surprisal"]) for t in (chunks, whole)), 1e-4)


def test_a_model_that_is_optimized_scores_the_same(models, tokenizer, agree):
    model, _ = models("gpt1")
    before = score(model, tokenizer, TEXTS)["surprisal"]
    after = score(optimize_for_inference(model), tokenizer, TEXTS)["surprisal"]
    agree("optimized for inference, in bits", np.nan_to_num(after), np.nan_to_num(before), 1e-4)


def test_dropout_is_off(tiny_config, tokenizer):
    config = tiny_config(vocab_size=len(tokenizer), hidden_dropout=0.5, embedding_dropout=0.5)
    model = GPT1ForCausalLM(config).train()
    assert score(model, tokenizer, TEXTS).equals(score(model.train(), tokenizer, TEXTS))


def test_bfloat16_is_close(model, tokenizer):
    exact = score(model, tokenizer, TEXTS)["surprisal"]
    rounded = score(model.bfloat16(), tokenizer, TEXTS)["surprisal"]
    assert rounded[1:5].tolist() == pytest.approx(exact[1:5].tolist(), rel=0.1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"context": 33}, "from 2 to 32 tokens"),
        ({"context": 1}, "from 2 to 32 tokens"),
        ({"context": 8, "stride": 8}, "from 1 to 7 tokens"),
        ({"stride": 0}, "from 1 to 31 tokens"),
        ({"unit": "words"}, "unit is word or token, not words"),
        ({"first": "bos"}, "first is none or line-break, not bos"),
    ],
)
def test_wrong_arguments_are_refused(change, message, model, tokenizer):
    with pytest.raises(ValueError, match=message):
        score(model, tokenizer, TEXTS, **change)


def test_what_cannot_be_scored_is_refused(model, tokenizer, tiny_config, small_vocabulary):
    masked = GPT1ForMaskedLM(tiny_config(vocab_size=len(tokenizer)))
    for wrong in (masked, model.model):
        with pytest.raises(ValueError, match="causal language model"):
            score(wrong, tokenizer, TEXTS)
    for texts in ("a text", [1], [None], pd.Series(["a", None])):
        with pytest.raises(TypeError, match="list of str"):
            score(model, tokenizer, texts)
    files = (small_vocabulary.directory / name for name in ("encoder_bpe_40000.json", "vocab_40000.bpe"))
    with pytest.raises(ValueError, match="no token"):
        score(model, GPT1Tokenizer.from_openai(*files), TEXTS, first="line-break")
    for layers in ([4], [-1]):
        with pytest.raises(ValueError, match="layers are from 0 to 3"):
            features(model, tokenizer, TEXTS, layers=layers)
    with pytest.raises(ValueError, match="unit is word or text"):
        features(model, tokenizer, TEXTS, unit="token")


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_means_of_hidden_states(kind, models, tokenizer, agree):
    model, reference = models(kind)
    rows, states = features(model, tokenizer, TEXTS, layers=[0, 3, 1], context=20, stride=8)
    of_texts, text_states = features(model, tokenizer, TEXTS, layers=[0, 3, 1], unit="text", context=20, stride=8)
    assert states.shape == (len(rows), 3, 32) and states.dtype == text_states.dtype == np.float32
    assert of_texts["end"].tolist() == [len(text) for text in TEXTS]
    for index, text in enumerate(TEXTS):
        words = words_by_prefix(tokenizer, text)
        ids = [token for _, ids in words for token in ids]
        of_tokens = []
        for place in range(len(ids)):
            start = next(start for start in range(0, len(ids), 8) if place < start + 20)
            with torch.no_grad():
                hidden = reference(torch.tensor([ids[start : place + 1]]), output_hidden_states=True).hidden_states
            of_tokens.append(torch.stack([hidden[layer][0, -1] for layer in (0, 3, 1)]))
        ends = np.cumsum([0, *(len(ids) for _, ids in words)])
        expected = torch.stack([torch.stack(of_tokens[a:b]).mean(0) for a, b in zip(ends, ends[1:], strict=False)])
        agree("states of words", states[rows["text_index"] == index], expected, 1e-4)
        agree("states of texts", text_states[index], torch.stack(of_tokens).mean(0), 1e-4)


def test_features_of_the_last_layer_of_any_model(model, tokenizer):
    rows, states = features(model.model, tokenizer, ["a dog", "\x01 a"])
    assert rows["num_tokens"].tolist() == [1, 1, 0, 1]
    assert np.isnan(states[2]).all() and np.isfinite(states[[0, 1, 3]]).all()
    ids = torch.tensor([tokenizer("a dog")["input_ids"]])
    with torch.no_grad():
        assert np.allclose(states[:2, 0], model.model(ids).last_hidden_state[0], atol=1e-5)


@pytest.fixture
def checkpoint(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


LINES = ['He said "no, no".', "", "null", "Élan 😀 1,5"]


def write_texts(path, column="text"):
    rows = datasets.Dataset.from_dict({"id": list(range(len(LINES))), column: LINES})
    if path.suffix == ".txt":
        path.write_text("\ufeff" + "\r\n".join(LINES) + "\r\n", encoding="utf-8", newline="")
    elif path.suffix == ".tsv":
        path.write_text(f"id\t{column}\n" + "".join(f"{i}\t{x}\n" for i, x in enumerate(LINES)), encoding="utf-8")
    else:
        {".csv": rows.to_csv, ".jsonl": rows.to_json, ".parquet": rows.to_parquet}[path.suffix](str(path))
    return str(path)


def test_a_txt_is_lines_or_with_a_delimiter_a_table(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("text\tn\na b\t1\n")
    assert read_input(str(path), "text", TableArguments()) == ["text\tn", "a b\t1"]
    assert read_input(str(path), "text", TableArguments(delimiter="tab")) == ["a b"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "txt"])
def test_score_reads_each_kind_of_file(kind, checkpoint, model, tokenizer, tmp_path, capsys):
    source, output = write_texts(tmp_path / f"texts.{kind}"), tmp_path / "new" / "scores.parquet"
    assert main(["score", "--model", checkpoint, "--input_file", source, "--output_file", str(output)]) == 0
    expected = score(model, tokenizer, LINES)
    written = pd.read_parquet(output)
    pd.testing.assert_frame_equal(written.astype({"word": object}), expected)
    assert json.loads(capsys.readouterr().out) == expected.attrs
    assert sorted(path.name for path in output.parent.iterdir()) == ["scores.parquet"]


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_score_writes_each_kind_of_file(kind, unit, checkpoint, model, tokenizer, tmp_path):
    source, output = write_texts(tmp_path / "texts.csv", "body"), tmp_path / f"scores.{kind}"
    flags = ["--text_column", "body", "--unit", unit, "--first", "line-break", "--context", "8", "--stride", "4"]
    assert main(["score", "--model", checkpoint, "--input_file", source, "--output_file", str(output), *flags]) == 0
    exact = {"keep_default_na": False, "na_values": {"surprisal": "", "word_index": ""}}
    written = {
        "csv": lambda: pd.read_csv(output, **exact),
        "tsv": lambda: pd.read_csv(output, sep="\t", **exact),
        "jsonl": lambda: pd.read_json(output, lines=True, dtype={"word": str, "token": str}),
        "parquet": lambda: pd.read_parquet(output),
    }[kind]()
    expected = score(model, tokenizer, LINES, unit, "line-break", 8, 4)
    pd.testing.assert_frame_equal(
        written.astype(object), expected.astype(object), check_exact=False, rtol=1e-6, check_dtype=False
    )


@pytest.mark.parametrize("unit", ["word", "text"])
@pytest.mark.parametrize("kind", ["npz", "NPZ", "parquet"])
def test_features_are_written(kind, unit, checkpoint, model, tokenizer, tmp_path, capsys):
    source, output = write_texts(tmp_path / "texts.txt"), tmp_path / f"features.{kind}"
    flags = ["--unit", unit, "--layers", "0", "2"]
    assert main(["features", "--model", checkpoint, "--input_file", source, "--output_file", str(output), *flags]) == 0
    rows, states = features(model, tokenizer, LINES, [0, 2], unit)
    assert f"{len(rows)} {unit}s, 2 x 32" in capsys.readouterr().out
    if kind.lower() == "npz":
        written = np.load(output)
        assert written["layers"].tolist() == [0, 2]
        assert written["states"].dtype == np.float32
        assert np.allclose(written["states"], states, atol=1e-5)
        numbers = rows.select_dtypes("number")
        assert all(np.array_equal(written[name], numbers[name]) for name in numbers)
    else:
        written = pd.read_parquet(output)
        for index, name in enumerate(["layer_0", "layer_2"]):
            assert np.allclose(np.stack(written[name]), states[:, index], atol=1e-5)
        pd.testing.assert_frame_equal(written[list(rows)], rows, check_dtype=False)


def test_features_are_those_of_any_model(tiny_config, tokenizer, tmp_path):
    masked = GPT1ForMaskedLM(tiny_config(vocab_size=len(tokenizer))).eval()
    masked.save_pretrained(tmp_path / "masked")
    tokenizer.save_pretrained(tmp_path / "masked")
    source, output = write_texts(tmp_path / "texts.txt"), tmp_path / "features.npz"
    flags = ["--model", str(tmp_path / "masked"), "--input_file", source, "--output_file", str(output)]
    assert main(["features", *flags]) == 0
    assert np.allclose(np.load(output)["states"], features(masked, tokenizer, LINES)[1], atol=1e-5)


def test_the_packaged_model_is_the_default(tmp_path, capsys):
    source, output = write_texts(tmp_path / "texts.txt"), tmp_path / "scores.csv"
    said = []
    for flags in ([], ["--model", "gpt1-mini", "--dtype", "float64"]):
        assert main(["score", "--input_file", source, "--output_file", str(output), *flags]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert 4 < said[0]["bits_per_token"] < 16
    # Perplexities as bits, which a perplexity in the thousands makes the errors of float32 many times larger
    bits = [{name: math.log2(x) if "perplexity" in name else x for name, x in each.items()} for each in said]
    assert bits[0] == pytest.approx(bits[1], rel=1e-6, abs=1e-5)


def test_bad_input_is_one_line_and_leaves_nothing(checkpoint, tmp_path, capfd):
    good = write_texts(tmp_path / "texts.csv")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "list.jsonl").write_text('{"text": 5}\n{"text": ["a"]}\n')
    (tmp_path / "missing.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    (tmp_path / "folder.csv").mkdir()
    output = str(tmp_path / "new" / "out.csv")
    cases = [
        ("no such file", "score", str(tmp_path / "none.csv"), output, []),
        ("no such file", "score", str(tmp_path / "none.txt"), output, []),
        ("not UTF-8 text at byte 0; likely cp1252", "score", str(tmp_path / "latin.txt"), output, []),
        ("is empty", "score", str(tmp_path / "empty.txt"), output, []),
        ("no column 'body'; there are id, text", "score", good, output, ["--text_column", "body"]),
        ("line 2: column 'text' holds no text: ['a']", "score", str(tmp_path / "list.jsonl"), output, []),
        ("line 2: column 'text' holds no text: None", "score", str(tmp_path / "missing.jsonl"), output, []),
        ("expected one of .csv", "score", good, str(tmp_path / "out.xls"), []),
        ("expected one of .npz, .parquet", "features", good, output, []),
        ("no checkpoint at", "score", good, output, ["--model", str(tmp_path / "none")]),
        ("from 2 to 32 tokens", "score", good, output, ["--context", "64"]),
        ("--batch_size must be at least 1, got 0", "score", good, output, ["--batch_size", "0"]),
        ("--layers must be different", "features", good, str(tmp_path / "out.parquet"), ["--layers", "1", "2", "1"]),
        ("layers are from 0 to 3", "features", good, str(tmp_path / "out.npz"), ["--layers", "0", "7"]),
        ("folder.csv is a folder", "score", good, str(tmp_path / "folder.csv"), []),
        ("--output_file is --input_file", "score", good, good, []),
        ("would shift text_index", "score", good, output, ["--skip_bad_rows", "True"]),
    ]
    for message, command, source, target, flags in cases:
        before = sorted(tmp_path.rglob("*"))
        capfd.readouterr()
        arguments = [command, "--model", checkpoint, "--input_file", source, "--output_file", target, *flags]
        assert main(arguments) == 1, message
        captured = capfd.readouterr()
        assert len(captured.err.splitlines()) == 1 and message in captured.err, f"{message}: {captured.err}"
        assert captured.out == "" and sorted(tmp_path.rglob("*")) == before, message


def conditioned(table: pd.DataFrame, index: int) -> np.ndarray:
    return table["surprisal"][(table["text_index"] == index) & table["conditioned"]].to_numpy()


SHORT = [text for text in TEXTS if len(text) < 80]


@pytest.mark.parametrize("kind", ["gpt1", "transformers"])
def test_minicons_gives_tokens_the_same(kind, models, tokenizer, agree):
    """It drops the first token, and takes no text that is longer than the model; its words are out of step."""
    scorer = pytest.importorskip("minicons.scorer", reason="minicons is not installed", exc_type=ImportError)
    model, _ = models(kind)
    theirs = scorer.IncrementalLMScorer(model, "cpu", tokenizer=tokenizer)
    tokens = score(model, tokenizer, SHORT, unit="token")
    for index, row in enumerate(theirs.token_score(SHORT, surprisal=True, base_two=True)):
        agree("minicons, in bits", [bits for _, bits in row[1:]], conditioned(tokens, index), 1e-4)


@pytest.mark.parametrize("kind", ["gpt1", "transformers"])
def test_surprisal_gives_tokens_the_same(kind, models, tokenizer, tmp_path, agree):
    """In nats; the end token, which it pads with, is left out of its distribution."""
    surprisal = pytest.importorskip("surprisal", reason="surprisal is not installed", exc_type=ImportError)
    model, _ = models(kind)
    tokenizer.save_pretrained(tmp_path / kind)
    theirs = surprisal.CausalHuggingFaceModel(str(tmp_path / kind))
    theirs.tokenizer.pad_token = "<pad>"
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.pad_token_id] *= 0
    theirs.model.load_state_dict(model.state_dict())
    tokens = score(model, tokenizer, SHORT, unit="token")
    for index, row in enumerate(theirs.surprise(SHORT, use_bos_token=False)):
        bits = conditioned(tokens, index)
        agree("surprisal, in bits", row.surprisals[1 : len(bits) + 1] / math.log(2), bits, 1e-4)
