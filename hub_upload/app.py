"""
A page to try a model on: what its head does, the tokens of a text, and where the heads of its attention look.

`gpt1 demo` shows it here. A Space holds this very file, as `app.py`, with `model.json` beside it, and torch,
transformers and Gradio are all there is: nothing else is imported. Names and texts are values of this program, never
part of its code, and escaped where they come into markup.
"""

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import gradio as gr
import torch
import torch.nn.functional as F
import transformers
from gradio.events import Dependency
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria


# A head by the name of its class, and the Auto class that loads it, in either format
AUTO_CLASSES = {
    "GPT1Model": "AutoModel",
    "GPT1ForCausalLM": "AutoModelForCausalLM",
    "GPT1ForMaskedLM": "AutoModelForMaskedLM",
    "GPT1ForSequenceClassification": "AutoModelForSequenceClassification",
    "GPT1ForEntailment": "AutoModelForSequenceClassification",
    "GPT1ForSimilarity": "AutoModelForSequenceClassification",
    "GPT1ForMultipleChoice": "AutoModelForMultipleChoice",
    "GPT1DoubleHeadsModel": "AutoModelForPreTraining",
}
# What the two texts of a pair are called
PAIRS = {
    "GPT1ForEntailment": ("Premise", "Hypothesis"),
    "GPT1ForSimilarity": ("Text", "Other text"),
    "GPT1ForMultipleChoice": ("Question", "Answer"),
}
CLASSIFIERS = {
    "GPT1ForSequenceClassification": "Classify",
    "GPT1ForEntailment": "Entailment",
    "GPT1ForSimilarity": "Similarity",
}
CHOOSERS = ("GPT1ForMultipleChoice", "GPT1DoubleHeadsModel")
EXAMPLES = ("A man is asleep on the grass.", "A man is awake.")

MOST_DRAWN = 40  # tokens in a picture: of more, nothing can be read on a phone
FAINTEST = 0.01  # weight that is drawn
CELL = 20  # the side of a field, in the picture's own units
PROBABILITIES = "Probabilities"
SURPRISAL = "Surprisal is in bits: how little a token was to be expected after those before it."
CSS = """
h1 {overflow-wrap: anywhere}
.html-container {padding: 0 !important}
.heads {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1rem}
.heads figure {margin: 0}
.heads svg {width: 100%; font: 14px ui-monospace, monospace; fill: currentColor}
.heads rect {fill: var(--color-accent)}
.heads .frame {fill: none; stroke: currentColor; stroke-opacity: .3}
"""


def refusal(message: str) -> gr.Error:
    """What a visitor has done wrong: shown on the page, and no fault of the program to be traced."""
    return gr.Error(message, print_exception=False)


class Watch(StoppingCriteria):
    """Hands on what has been generated after each token, `(rows, length)`, and ends it once `stopped` is set."""

    def __init__(self) -> None:
        self.ids: SimpleQueue[torch.Tensor | None] = SimpleQueue()
        self.stopped = Event()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        self.ids.put(input_ids)
        return torch.full((len(input_ids),), self.stopped.is_set(), device=input_ids.device)


class App:
    """
    What the page answers. Every method raises `gr.Error`, of one line, for texts that are empty or too long.

    Args:
        model (`PreTrainedModel`): any class of gpt1, or one of openai-gpt. It goes to the GPU if there is one.
        tokenizer (`PreTrainedTokenizerBase`): its own.
        head (`str`): the class of gpt1 whose inputs it takes, a key of `AUTO_CLASSES`.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, head: str):
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = tokenizer
        self.head = head
        self.positions = model.config.max_position_embeddings
        self.predicts = head in ("GPT1ForCausalLM", "GPT1DoubleHeadsModel")  # each token from those before it

    @classmethod
    def load(cls, model: str, head: str, trust_remote_code: bool) -> "App":
        """The app of a checkpoint, a directory or a Hub id, as `model.json` names it."""
        auto_class = getattr(transformers, AUTO_CLASSES[head])
        loaded = auto_class.from_pretrained(model, trust_remote_code=trust_remote_code)
        return cls(loaded, AutoTokenizer.from_pretrained(model), head)

    def encode(self, *texts: str, most: int | None = None) -> torch.Tensor:
        """The ids `(1, length)` of a text or a pair, `most` tokens or as many as the model has positions."""
        if not all(text.strip() for text in texts):
            raise refusal("Enter a text." if len(texts) == 1 else "Enter both texts.")
        ids = self.tokenizer(
            *texts,
            add_special_tokens=not self.predicts or len(texts) > 1,
            split_special_tokens=self.tokenizer.mask_token is None,  # their names in a text are text
            verbose=False,
        )["input_ids"]
        if not ids:
            raise refusal("Enter a text: of this one the tokenizer keeps nothing.")
        most = self.positions if most is None else most
        if len(ids) > most:
            raise refusal(f"Too long: {len(ids):,} tokens, of which {most:,} fit.")
        return torch.tensor([ids], device=self.model.device)

    def generate(self, prompt: str, new_tokens: int, temperature: float, top_k: int, top_p: float) -> Iterator[str]:
        """The prompt with its continuation as it grows; of temperature 0, always by the likeliest token."""
        ids = self.encode(prompt, most=self.positions - int(new_tokens))
        sampling = {"temperature": temperature, "top_k": int(top_k), "top_p": top_p} if temperature else {}
        watch = Watch()
        decode: Callable[..., Any] = partial(self.tokenizer.decode, skip_special_tokens=True)
        begun = len(decode(ids[0]))
        with ThreadPoolExecutor(1) as thread:
            generated = thread.submit(
                self.model.generate,
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=int(new_tokens),
                do_sample=bool(sampling),
                stopping_criteria=[watch],
                **sampling,
            )
            generated.add_done_callback(lambda _: watch.ids.put(None))
            try:
                for rows in iter(watch.ids.get, None):
                    yield prompt + decode(rows[0])[begun:]
                generated.result()  # raises what was raised
            finally:  # Gradio closes this when the visitor stops it or leaves
                watch.stopped.set()

    @torch.inference_mode()
    def classify(self, *texts: str) -> dict[str, float] | float:
        """The probability of each label, or the number that a regression gives."""
        config = self.model.config
        logits = self.model(self.encode(*texts)).logits[0].float()
        if self.gives_number:
            return logits.item()
        several = config.problem_type == "multi_label_classification"
        probabilities = logits.sigmoid() if several else logits.softmax(-1)
        return {config.id2label[index]: probability for index, probability in enumerate(probabilities.tolist())}

    @property
    def gives_number(self) -> bool:
        return self.model.config.problem_type == "regression" or self.model.config.num_labels == 1

    @torch.inference_mode()
    def choose(self, question: str, answers: str) -> dict[str, float]:
        """The probability of each answer, of which there is one a line."""
        choices = list(dict.fromkeys(line.strip() for line in answers.splitlines() if line.strip()))
        if len(choices) < 2:
            raise refusal("Enter two different answers or more, one a line.")
        rows = [self.encode(question, choice)[0] for choice in choices]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        outputs = self.model(ids[None], attention_mask=mask[None])  # (1, choices, length)
        logits = outputs.mc_logits if "mc_logits" in outputs else outputs.logits
        return dict(zip(choices, logits[0].float().softmax(-1).tolist(), strict=True))

    @torch.inference_mode()
    def fill(self, text: str) -> dict[str, float]:
        """The likeliest tokens in the place of the first mask token, with their probabilities."""
        ids = self.encode(text)
        masked = (ids[0] == self.tokenizer.mask_token_id).nonzero()
        if not len(masked):
            raise refusal(f"Write {self.tokenizer.mask_token} for the word that is to be found.")
        best = self.model(ids).logits[0, masked[0, 0]].float().softmax(-1).topk(10)
        found: dict[str, float] = {}
        for name, probability in zip(self.names(best.indices), best.values.tolist(), strict=True):
            shown = name.removesuffix("</w>")  # which two tokens may share
            found[shown] = found.get(shown, 0.0) + probability
        return found

    def names(self, ids: torch.Tensor) -> list[str]:
        """The entries of the vocabulary, with a line break to be seen."""
        return [token.replace("\n", "↵") for token in self.tokenizer.convert_ids_to_tokens(ids.tolist())]

    @torch.inference_mode()
    def tokens(self, *texts: str) -> list[list[str | int | float | None]]:
        """Each token with its id and, of a model that predicts, its surprisal in bits; the first has none."""
        ids = self.encode(*texts)
        rows = [list(row) for row in zip(self.names(ids[0]), ids[0].tolist(), strict=True)]
        if self.predicts:
            states = self.model.base_model(ids)[0][0, :-1]  # (length - 1, hidden_size)
            logits = self.model.get_output_embeddings()(states).float()
            nats = F.cross_entropy(logits, ids[0, 1:], reduction="none").double()
            for row, bits in zip(rows, [None, *(nats / math.log(2)).tolist()], strict=True):
                row.append(bits if bits is None else round(bits, 3))
        return rows

    @torch.inference_mode()
    def attention(self, layer: int, *texts: str) -> str:
        """The pictures of a layer's heads, from 1, as HTML."""
        ids = self.encode(*texts, most=min(MOST_DRAWN, self.positions))
        weights = self.model.base_model(ids, output_attentions=True).attentions[layer - 1][0]
        names = self.names(ids[0])
        figures = (
            f"<figure><figcaption>Head {number}</figcaption>{picture(names, head)}</figure>"
            for number, head in enumerate(weights.float().tolist(), 1)
        )
        return f'<div class="heads">{"".join(figures)}</div>'


def picture(names: list[str], weights: list[list[float]]) -> str:
    """A head as SVG: a row of fields for each token, the darker the more it looks at the token of the column."""
    short = [name.removesuffix("</w>")[:12] for name in names]
    labels = list(map(escape, short))
    margin, side = 9 * max(map(len, short)) + 6, CELL * len(names)
    parts = [f'<rect class="frame" x="{margin}" y="{margin}" width="{side}" height="{side}"/>']
    for row, (label, row_weights) in enumerate(zip(labels, weights, strict=True)):
        start, middle = margin + CELL * row, margin + CELL * row + 15
        parts.append(f'<text x="{margin - 4}" y="{middle}" text-anchor="end">{label}</text>')
        parts.append(f'<text transform="translate({middle} {margin - 4}) rotate(-90)">{label}</text>')
        parts += [
            f'<rect x="{margin + CELL * column}" y="{start}" width="{CELL}" height="{CELL}" '
            f'fill-opacity="{weight:.2f}"><title>{label} → {labels[column]}: {weight:.2f}</title></rect>'
            for column, weight in enumerate(row_weights)
            if weight >= FAINTEST
        ]
    return f'<svg viewBox="0 0 {margin + side} {margin + side}">{"".join(parts)}</svg>'


def page(app: App, name: str) -> gr.Blocks:
    """The page of an app, with a tab for what its head does, and `name` above."""
    with gr.Blocks(title=name, analytics_enabled=False) as blocks:
        gr.HTML(f"<h1>{escape(name)}</h1>")
        if app.head == "GPT1ForCausalLM":
            with gr.Tab("Generate"):
                _generation(app)
        if app.head in CLASSIFIERS:
            with gr.Tab(CLASSIFIERS[app.head]):
                texts, button = _texts(app), gr.Button("Answer", variant="primary")
                output = gr.Number(label="Score", precision=4) if app.gives_number else gr.Label(label=PROBABILITIES)
                _ask(button, app.classify, texts, output)
        if app.head in CHOOSERS:
            with gr.Tab("Choose"):
                question = gr.Textbox("The glass fell to the floor. What happened to it?", label="Question")
                answers = gr.Textbox("It broke.\nIt sang.", label="Answers, one a line", lines=4)
                button = gr.Button("Answer", variant="primary")
                _ask(button, app.choose, [question, answers], gr.Label(label=PROBABILITIES))
        if app.head == "GPT1ForMaskedLM" and app.tokenizer.mask_token is not None:
            with gr.Tab("Fill in"):
                text = gr.Textbox(f"A man is {app.tokenizer.mask_token} on the grass.", label="Text")
                button = gr.Button("Answer", variant="primary")
                _ask(button, app.fill, [text], gr.Label(label=PROBABILITIES))
        with gr.Tab("Tokens"):
            texts, button = _texts(app), gr.Button("Show the tokens", variant="primary")
            headers = ["Token", "Id", "Surprisal"] if app.predicts else ["Token", "Id"]
            _ask(button, app.tokens, texts, gr.Dataframe(headers=headers, interactive=False))
            gr.Markdown(f"`</w>` ends a word. {SURPRISAL if app.predicts else ''}")
        with gr.Tab("Attention"):
            texts, layers = _texts(app), app.model.config.num_hidden_layers
            layer = gr.Dropdown(list(range(1, layers + 1)), value=layers, label="Layer")
            button = gr.Button("Show the heads", variant="primary")
            _ask(button, app.attention, [layer, *texts], gr.HTML())
            gr.Markdown("The token of a row looks at those of the columns: the darker, the more.")
    return blocks


def _texts(app: App) -> list[gr.Textbox]:
    labels = PAIRS.get(app.head, ("Text",))
    return [gr.Textbox(text, label=label) for label, text in zip(labels, EXAMPLES, strict=False)]


def _generation(app: App) -> None:
    prompt = gr.Textbox("It was a bright cold day in April,", label="Prompt", lines=3)
    new_tokens = gr.Slider(1, app.positions - 1, value=min(40, app.positions // 2), step=1, label="New tokens")
    with gr.Accordion("Sampling", open=False):
        temperature = gr.Slider(0, 2, value=0.8, step=0.05, label="Temperature", info="0: the likeliest token")
        top_k = gr.Slider(0, 200, value=50, step=1, label="Top k", info="Of so many tokens; 0: all")
        top_p = gr.Slider(0.05, 1, value=1, step=0.05, label="Top p", info="Of the likeliest by their sum")
    with gr.Row():
        button = gr.Button("Generate", variant="primary", min_width=120)
        stop = gr.Button("Stop", min_width=120)
    text = gr.Textbox(label="Text", lines=6, max_lines=100)
    running = _ask(button, app.generate, [prompt, new_tokens, temperature, top_k, top_p], text)
    stop.click(None, cancels=running)


def _ask(button: gr.Button, answer: Callable, inputs: list, output: gr.components.Component) -> Dependency:
    # One answer at a time: a second one would take the same cores, and fast tokenizers are not for several threads
    triggers = [button.click, *(box.submit for box in inputs if isinstance(box, gr.Textbox))]
    return gr.on(triggers, answer, inputs, output, concurrency_id="model", api_name=answer.__name__)


def launch(blocks: gr.Blocks, **where: Any) -> tuple:
    """Serves a page, with nothing from elsewhere on it; `where` is as in `gr.Blocks.launch`."""
    theme = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
    return blocks.launch(theme=theme, css=CSS, footer_links=[], share=False, ssr_mode=False, **where)


if __name__ == "__main__":
    settings = json.loads(Path(__file__).with_name("model.json").read_text(encoding="utf-8"))
    launch(page(App.load(**settings), settings["model"]))
