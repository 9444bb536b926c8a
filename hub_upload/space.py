"""A Space for a model: a Gradio app for the task of its head, in a repository of the model's name."""

import json
from pathlib import Path
from string import Template

from huggingface_hub import SpaceCardData


_HEAD = '''"""A page to try $repo_id on."""

import gradio as gr
$imports

$load


'''
_TAIL = """

demo = gr.Interface(answer, $inputs, $output, examples=$examples, title="$repo_id")

if __name__ == "__main__":
    demo.launch()
"""
_PIPELINE = "from transformers import pipeline\n"

_CLASSES = """def answer(text):
    return {entry["label"]: entry["score"] for entry in classify([text], truncation=True)[0]}
"""
_PAIR_CLASSES = """def answer(text, other_text):
    pair = {"text": text, "text_pair": other_text}
    return {entry["label"]: entry["score"] for entry in classify([pair], truncation=True)[0]}
"""
_SCORE = """def answer(text):
    return score([text], truncation=True)[0]["score"]
"""
_PAIR_SCORE = """def answer(text, other_text):
    return score([{"text": text, "text_pair": other_text}], truncation=True)[0]["score"]
"""
_GENERATE = """def answer(prompt, new_tokens):
    # of a prompt that leaves no room, the end
    return generate(prompt, max_new_tokens=int(new_tokens), handle_long_generation="hole")[0]["generated_text"]
"""
_CHOOSE = """def answer(question, answers):
    answers = [line for line in answers.splitlines() if line.strip()]
    if len(answers) < 2:
        raise gr.Error("Give two answers or more, one per line.")
    inputs = tokenizer([question] * len(answers), answers, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**{name: tensor.unsqueeze(0) for name, tensor in inputs.items()}).logits[0]
    return dict(zip(answers, logits.softmax(-1).tolist()))
"""

_ONE, _TWO = 'gr.Textbox(label="Text")', '[gr.Textbox(label="Text"), gr.Textbox(label="Other text")]'
_LABELS, _NUMBER = "gr.Label()", "gr.Number()"
_LOAD_CLASSES = 'classify = pipeline("text-classification", model="$repo_id"$trust, top_k=None)'
_LOAD_SCORE = 'score = pipeline("text-classification", model="$repo_id"$trust, function_to_apply="none")'
_ONE_EXAMPLE, _TWO_EXAMPLES = [["A delightful evening."]], [["A man sleeps.", "A man is awake."]]


def write_space(directory: Path, exported: Path, repo_id: str, output_dir: Path) -> dict[str, Path]:
    """
    Writes the app, its requirements and the Space's page.

    Args:
        directory: the model in this package's format.
        exported: the model as it goes to the Hub.
        repo_id: the model on the Hub.
        output_dir: the folder to write.

    Returns:
        The files by their names.

    Raises:
        ValueError: a model without a task of its own to show.
    """
    (architecture,) = json.loads((directory / "config.json").read_text(encoding="utf-8"))["architectures"]
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    pair = architecture in ("GPT1ForEntailment", "GPT1ForSimilarity")
    imports, inputs, examples = _PIPELINE, _TWO if pair else _ONE, _TWO_EXAMPLES if pair else _ONE_EXAMPLE
    if architecture == "GPT1ForCausalLM":
        load, body, output = 'generate = pipeline("text-generation", model="$repo_id"$trust)', _GENERATE, _ONE
        inputs = '[gr.Textbox(label="Prompt"), gr.Slider(1, 100, value=40, step=1, label="New tokens")]'
        examples = [["It was a bright cold day in april,", 40]]
    elif architecture == "GPT1ForMultipleChoice":
        imports = "import torch\nfrom transformers import AutoModelForMultipleChoice, AutoTokenizer\n"
        load = (
            'tokenizer = AutoTokenizer.from_pretrained("$repo_id")\n'
            'model = AutoModelForMultipleChoice.from_pretrained("$repo_id"$trust).eval()'
        )
        body, output = _CHOOSE, _LABELS
        inputs = '[gr.Textbox(label="Question"), gr.Textbox(label="Answers, one per line", lines=4)]'
        examples = [["Tom was hungry. What did he do?", "He ate an apple.\nHe sold his shoes."]]
    elif pair or architecture == "GPT1ForSequenceClassification":
        if config.get("problem_type") == "regression":
            load, body, output = _LOAD_SCORE, _PAIR_SCORE if pair else _SCORE, _NUMBER
        else:
            load, body, output = _LOAD_CLASSES, _PAIR_CLASSES if pair else _CLASSES, _LABELS
    else:
        raise ValueError(f"{architecture} has no task of its own for a Space to show")
    trust = ", trust_remote_code=True" if "auto_map" in config else ""
    names = {"repo_id": repo_id, "imports": imports, "inputs": inputs, "output": output, "examples": repr(examples)}
    names["load"] = Template(load).substitute(repo_id=repo_id, trust=trust)
    title = repo_id.rpartition("/")[2]
    card = SpaceCardData(title=title, sdk="gradio", app_file="app.py", license="mit", models=[repo_id])
    link = f"[{repo_id}](https://huggingface.co/{repo_id})"
    texts = {
        "app.py": Template(_HEAD).substitute(names) + body + Template(_TAIL).substitute(names),
        "requirements.txt": "torch>=2.11\ntransformers>=5.17\n",
        "README.md": f"---\n{card.to_yaml()}\n---\n\nA page to try {link} on.\n",
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (output_dir / name).write_text(text, encoding="utf-8")
    return {name: output_dir / name for name in texts}
