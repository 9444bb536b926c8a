"""
Analyses of language models, each a module with its `Arguments` and a function `analyze` of them, which writes what it
finds as JSON, as a Markdown table and as a picture to `output_dir`, and goes on where it stopped.
"""

# What `gpt1 analyze` knows: a module of this package, and what it measures
ANALYSES = {
    "transfer": "how much each pre-trained layer is worth on a task (paper, figure 2, left)",
    "zero-shot": "tasks without fine-tuning, over the checkpoints of a pre-training (paper, figure 2, right)",
    "ablation": "without pre-training, without the auxiliary loss, and an LSTM in the transformer's place (table 5)",
    "attention": "what each head looks at in a text",
    "induction": "in-context copying: the loss on random tokens said twice, and the heads that look them up",
}
