"""
GPT-1 in NumPy float64, written from the equations of the paper alone, to be read beside them.

Everything is about one text, a list of token ids without padding; a batch is a loop. `p` holds the parameters by the
paper's symbols, matrices as `(in, out)`: `W_e`, `W_p`, `W_y`, `b_y`, and one dictionary for each block in `blocks`
(query, key and value in `W_qkv`, then `W_o`; `W_1`, `W_2` of the feed-forward layer; gains `g` and offsets `o` of the
norms; biases `b`). `o` holds the options by the names of the configuration.

References:
1. A. Radford, K. Narasimhan, T. Salimans, I. Sutskever: Improving Language Understanding by Generative Pre-Training,
   2018: sections 3.1 to 3.3 and 4.1.
2. A. Vaswani et al.: Attention Is All You Need, 2017: the block (3.1), attention (3.2), sinusoids (3.5).
3. OpenAI's optimizer and schedule, finetune-transformer-lm, opt.py.
"""

import numpy as np


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, gain, offset, eps):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) + offset


def sinusoids(length, width):
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    table = np.empty((length, width))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


def attention(x, b, heads, sees):
    query, key, value = np.split(x @ b["W_qkv"] + b["b_qkv"], 3, axis=-1)
    width = x.shape[-1] // heads
    out = []
    for head in range(heads):
        of = slice(head * width, (head + 1) * width)
        scores = query[:, of] @ key[:, of].T / np.sqrt(width)
        out.append(np.exp(log_softmax(np.where(sees, scores, -np.inf))) @ value[:, of])
    return np.concatenate(out, -1) @ b["W_o"] + b["b_o"]


def mlp(x, b):
    return gelu(x @ b["W_1"] + b["b_1"]) @ b["W_2"] + b["b_2"]


def states(p, o, tokens, segments=None):
    """h_0 = U W_e + W_p, h_l = block(h_{l-1}): equation 2. `(length, width)`"""
    length, width = len(tokens), p["W_e"].shape[1]
    positions = sinusoids(length, width) if o["position_embedding_type"] == "sinusoidal" else p["W_p"][:length]
    h = p["W_e"][tokens] + positions
    if segments is not None:
        h = h + p["W_e"][segments]
    back = np.arange(length)[:, None] - np.arange(length)  # how far behind the row's token the column's is
    sees = (back >= 0) if o["is_causal"] else np.ones((length, length), bool)
    if o["attention_window"] is not None:
        k = o["attention_window"]  # the k of equation 1; without causality, on each side
        sees &= (back < k) if o["is_causal"] else (abs(back) <= k)

    eps, heads = o["layer_norm_eps"], o["num_attention_heads"]
    for b in p["blocks"]:
        if o["norm_position"] == "post":
            n = layer_norm(h + attention(h, b, heads, sees), b["g_n"], b["o_n"], eps)
            h = layer_norm(n + mlp(n, b), b["g_h"], b["o_h"], eps)
        else:  # GPT-2's
            h = h + attention(layer_norm(h, b["g_n"], b["o_n"], eps), b, heads, sees)
            h = h + mlp(layer_norm(h, b["g_h"], b["o_h"], eps), b)
    return h if o["norm_position"] == "post" else layer_norm(h, p["g"], p["o"], eps)


def token_logits(p, o, tokens, segments=None):
    """h_n W_e^T, of which P(u) is the softmax: equation 2. `(length, vocabulary)`"""
    return states(p, o, tokens, segments) @ p["W_e"].T


def language_modeling(p, o, tokens, targets=None, segments=None):
    """-L1 of one text, a mean over its tokens: equation 1. A target of -100 is not counted."""
    log_p = log_softmax(token_logits(p, o, tokens, segments))
    targets = tokens if targets is None else targets
    losses = [-log_p[i, targets[i + 1]] for i in range(len(tokens) - 1) if targets[i + 1] != -100]
    return np.mean(losses)


def masked_modeling(p, o, texts, targets):
    """The mean of -log P(target) over the masked tokens of several texts."""
    losses = []
    for tokens, wanted in zip(texts, targets, strict=True):
        log_p = log_softmax(token_logits(p, o, tokens))
        losses += [-log_p[i, target] for i, target in enumerate(wanted) if target != -100]
    return np.mean(losses)


def classify(p, o, text, segments=None):
    """h_l^m W_y: equation 3, for `start text extract` and `start premise delimiter hypothesis extract`."""
    return states(p, o, text, segments)[-1] @ p["W_y"] + p["b_y"]


def compare(p, o, first, second):
    """Similarity (section 3.3): the extract states of `first` and `second`, the two orders of a pair, added."""
    return (states(p, o, first)[-1] + states(p, o, second)[-1]) @ p["W_y"] + p["b_y"]


def choose(p, o, rows):
    """Multiple choice (section 3.3): one score for each row `start context delimiter answer extract`."""
    return np.array([classify(p, o, row)[0] for row in rows])


def cross_entropy(logits, label, smoothing=0.0):
    """-log P(y | x): equation 4; a part of the probability may be spread over all classes."""
    wanted = np.full(len(logits), smoothing / len(logits))
    wanted[label] += 1 - smoothing
    return -(wanted * log_softmax(logits)).sum()


def squared_error(logits, score):
    return (logits[0] - score) ** 2


def binary_cross_entropy(logits, wanted):
    p = 1 / (1 + np.exp(-logits))
    return -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean()


def combined(task, lm, o):
    """L3 = L2 + lambda L1: equation 5; or the convex form."""
    if o["lm_loss_weighting"] == "convex":
        return o["lm_coef"] * task + (1 - o["lm_coef"]) * lm
    return task + o["lm_coef"] * lm


def directional_derivative(f, x, direction, step=1e-3):
    """The derivative of `f` at `x` along `direction`, by central differences of fourth order."""
    at = {k: f(x + k * step * direction) for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)


def warmup_linear(x, warmup):
    """The factor of the learning rate when the part `x` of all updates is done (opt.py)."""
    return (x / warmup if x <= warmup else 1.0) * (1 - x)


def adam(parameters, gradients, moments, done, total, o):
    """
    One update of the original's Adam in place, `done` of `total` updates having been made (opt.py).

    `parameters` and `gradients` are lists of arrays, `moments` one pair `m, v` of arrays for each.
    """
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    clip = min(1.0, o["max_grad_norm"] / norm) if norm > 0 else 1.0
    t = done + 1
    rate = o["learning_rate"] * np.sqrt(1 - o["b2"] ** t) / (1 - o["b1"] ** t)
    rate *= warmup_linear(done / total, o["warmup"])
    for p, g, (m, v) in zip(parameters, gradients, moments, strict=True):
        m[...] = o["b1"] * m + (1 - o["b1"]) * clip * g
        v[...] = o["b2"] * v + (1 - o["b2"]) * (clip * g) ** 2
        decay = o["l2"] * p if p.ndim > 1 else 0.0
        p[...] = p - rate * (m / (np.sqrt(v) + o["eps"]) + decay)
