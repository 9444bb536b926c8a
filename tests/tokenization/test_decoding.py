"""Decoded text reads naturally, whole, in pieces, streamed, and through pipelines."""

import pytest
import torch
from transformers import AutoTokenizer, OpenAIGPTConfig, OpenAIGPTLMHeadModel, TextStreamer, pipeline

from tokenization import GPT1Tokenizer


NATURAL = [
    ("Hello, world!", "hello, world!"),
    ("I don't know, Mr. Smith... it’s 5 o'clock.", "i don't know, mr. smith... it's 5 o'clock."),
    ('"Go home," he said. "It\'s late."', '"go home," he said. "it\'s late."'),
    (
        "'Tis the boys' books. 'Hello,' he said, 'you're here.'",
        "'tis the boys' books. 'hello,' he said, 'you're here.'",
    ),
    ("A well-known (as a fact) 50% and/or $5; really?!", "a well-known (as a fact) 50% and/or $5; really?!"),
    ("Can't, won't, couldn't, cannot, gonna, y'all.", "can't, won't, couldn't, cannot, gonna, y'all."),
    ("(\"So,\" [he] said: 'no'.)", "(\"so,\" [he] said: 'no'.)"),
    ("One line.\nAnother line.", "one line.\nanother line."),
    ("10,000 men at 10:30 a.m. in the U.S.", "10,000 men at 10:30 a.m. in the u.s."),
]


@pytest.mark.parametrize(("text", "expected"), NATURAL)
def test_spacing_is_natural(text, expected, tokenizer):
    assert tokenizer.decode(tokenizer(text).input_ids) == " " + expected


def test_decoding_again_gives_the_same(texts, tokenizer):
    """What was decoded reads as the same words, for nearly all paragraphs."""
    sample = texts["novels/valid"][::60]
    ids = tokenizer(sample).input_ids
    again = tokenizer(tokenizer.batch_decode(ids)).input_ids
    assert sum(a == b for a, b in zip(ids, again, strict=True)) / len(sample) > 0.97


def test_no_blank_before_punctuation_in_real_text(texts, tokenizer):
    decoded = tokenizer.batch_decode(tokenizer(texts["novels/valid"][::20]).input_ids)
    for mark in [" ,", " .", " ;", " ?", " !", " n't", " 's ", "( "]:
        assert sum(mark in text for text in decoded) <= len(decoded) / 200, mark


def test_raw_spacing_is_that_of_2018(tokenizer):
    ids = tokenizer('"I don\'t know," he said.').input_ids
    assert tokenizer.decode(ids, raw_spacing=True) == '" i do n\'t know , " he said . '
    assert tokenizer.batch_decode([ids], raw_spacing=True) == ['" i do n\'t know , " he said . ']


def test_special_tokens_stand_apart(tokenizer):
    ids = [tokenizer.bos_token_id, *tokenizer("a cat").input_ids, tokenizer.cls_token_id]
    assert tokenizer.decode(ids) == " _start_ a cat _classify_"
    assert tokenizer.decode(ids, skip_special_tokens=True) == " a cat"
    assert tokenizer.decode(ids, raw_spacing=True, skip_special_tokens=True) == "a cat "


def test_added_tokens_are_words_as_they_are_written(tmp_path):
    tokenizer = GPT1Tokenizer()
    tokenizer.add_tokens(["[Speaker 1]"], special_tokens=True)
    tokenizer.add_tokens(["<user>", "zzfoo"])
    text = "[Speaker 1] well, <user> zzfoo."
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["[Speaker 1]", "well</w>", ",</w>", "<user>", "zzfoo", ".</w>"]
    assert [text[a:b] for a, b in tokenizer(text, return_offsets_mapping=True).offset_mapping] == [
        "[Speaker 1]", "well", ",", "<user>", "zzfoo", ".",
    ]  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    for kind in (tokenizer, GPT1Tokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert kind.decode(ids) == " " + text
        assert "".join(kind.batch_decode([[token] for token in ids[:2]])) == " [Speaker 1] well"
        assert kind.decode(ids, skip_special_tokens=True) == " well, <user> zzfoo."


class Collected(TextStreamer):
    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.text = ""

    def on_finalized_text(self, text, stream_end=False):
        self.text += text


def streamed(ids, tokenizer):
    streamer = Collected(tokenizer)
    for index in ids:
        streamer.put(torch.tensor([index]))
    streamer.end()
    return streamer.text


def test_streams_give_the_text_token_by_token(texts, tokenizer):
    sample = [text for text in texts["novels/valid"][::150] + texts["mctest"][::400] if "\n" not in text]
    sample += [text for text, _ in NATURAL if "\n" not in text]
    for text in sample:
        ids = tokenizer(text).input_ids
        assert streamed(ids, tokenizer) == tokenizer.decode(ids)


def test_pieces_join_without_gluing_words(texts, tokenizer):
    """However a text is cut between words, no two words touch."""
    for text in texts["mrpc"][::400]:
        ids = tokenizer(text).input_ids
        for cut in range(1, len(ids)):
            if tokenizer.convert_ids_to_tokens(ids[cut - 1]).endswith("</w>"):
                left, right = tokenizer.decode(ids[:cut]), tokenizer.decode(ids[cut:])
                assert not (left[-1].isalnum() and right[0].isalnum())


@pytest.mark.parametrize("first", ["He paused—", "and/", "a well-"])
def test_what_was_said_stays_whatever_comes_next(first, tokenizer):
    """Pipelines cut the prompt off by its length."""
    ids = tokenizer(first).input_ids
    for mark in (".", ",", "...", "!", ")", "'s", "n't", "''", "-", '"', "and"):
        assert tokenizer.decode([*ids, *tokenizer(mark).input_ids]).startswith(tokenizer.decode(ids)), mark


def test_the_generation_pipeline_continues_the_prompt(tmp_path):
    tokenizer = GPT1Tokenizer()  # its own: the pipeline turns the padding side
    torch.manual_seed(0)
    config = OpenAIGPTConfig(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for each in (tokenizer, loaded):
        generate = pipeline("text-generation", model=OpenAIGPTLMHeadModel(config), tokenizer=each, device="cpu")
        out = generate("The cat", max_new_tokens=12, do_sample=False)[0]["generated_text"]
        assert out.startswith("The cat")
        assert not out[len("The cat") :][:1].isalnum()
