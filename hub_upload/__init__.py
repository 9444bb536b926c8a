"""Sharing a model on the Hub: a complete folder, its card, and the push."""

from .export import export
from .model_card import write_model_card
from .upload import Change, PushResult, push


__all__ = ["Change", "PushResult", "export", "push", "write_model_card"]
