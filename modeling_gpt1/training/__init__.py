"""From files to a trained model, on transformers' Trainer."""

# What a run leaves in its directory for a model card, beside Trainer's own files.
FACTS = "card.json"
