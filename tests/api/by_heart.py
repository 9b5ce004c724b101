"""A language model that knows one sentence by heart; the loop around it is the real one."""

from __future__ import annotations

import time

EOS = 0
VOCABULARY_SIZE = 0x800


class Characters:
    """One token a code point, those of far planes taken together; id 0 ends."""

    special_tokens = frozenset()

    def encode(self, text):
        return [min(ord(ch), VOCABULARY_SIZE - 1) for ch in text]

    def decode(self, token_ids):
        return "".join(chr(i) for i in token_ids if i != EOS)

    def chat(self, messages):
        return self.encode("".join(f"{role}: {content}\n" for role, content in messages))


class ByHeart:
    """Says `sentence` after any prompt, at `step_s` a token, then ends."""

    name = "by-heart"
    tokenizer = Characters()
    context_length = 2048
    vocabulary_size = VOCABULARY_SIZE
    eos_ids = frozenset({EOS})

    def __init__(self, sentence, step_s=0.0):
        self.sentence = sentence
        self.script = [*self.tokenizer.encode(sentence), EOS]
        self.step_s = step_s
        self.steps = 0

    def open_context(self):
        return Recital(self)


class Recital:
    """One sequence: the first forward is the prompt, all that follows is recited."""

    def __init__(self, model):
        self.model = model
        self.position = 0
        self.n_prompt = 0

    def forward(self, token_ids, *, last_only=False):
        import torch

        time.sleep(self.model.step_s)
        self.model.steps += 1
        self.position += len(token_ids)
        self.n_prompt = self.n_prompt or self.position
        n_rows = 1 if last_only else len(token_ids)
        said = self.position - self.n_prompt
        logits = torch.zeros(n_rows, self.model.vocabulary_size)
        for row in range(n_rows):
            place = min(max(said - n_rows + 1 + row, 0), len(self.model.script) - 1)
            logits[row, self.model.script[place]] = 100.0
        return logits

    def crop(self, position):
        self.position = position
