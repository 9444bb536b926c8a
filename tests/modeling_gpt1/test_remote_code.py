"""What `save_pretrained` wrote, loaded where the package is not installed."""

from modeling_gpt1 import GPT1ForSimilarity, GPT1Model
from tokenization import GPT1Tokenizer


def test_every_head_loads_without_the_package(tiny_config, tmp_path, auto_classes, load_elsewhere, answer):
    tokenizer = GPT1Tokenizer(task_format=True)
    jobs, expected = [], []
    for model_class, auto_class in auto_classes.items():
        directory = str(tmp_path / model_class.__name__)
        model = model_class(tiny_config(vocab_size=len(tokenizer)))
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        jobs.append((directory, auto_class, "main"))
        expected.append(answer(model, tokenizer))
        # Any checkpoint serves as any other class: the map in its configuration is complete.
        if model_class is GPT1ForSimilarity:
            jobs.append((directory, "AutoModel", "main"))
            expected.append(answer(GPT1Model.from_pretrained(directory), tokenizer))
    assert load_elsewhere(jobs, HF_HUB_OFFLINE="1") == expected
