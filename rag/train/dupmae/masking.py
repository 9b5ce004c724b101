"""What pre-training hides: whole words from the encoder, tokens from each row of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

CONTINUES = "##"
"""How a WordPiece begins that goes on with the word before."""

REPLACED, KEPT = 0.8, 0.9
"""Of what is predicted, this share becomes [MASK]; up to the second a random token; the rest stays.

As BERT does (Devlin et al. 2019), so that the encoder cannot rely on seeing [MASK]."""


def mask_words(
    row: Sequence[int],
    continues: NDArray[np.bool_],
    share: float,
    mask_token: int,
    generator: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Hide about `share` of a row's words, whole: (what the encoder reads, places to predict).

    `row` begins with [CLS] and ends with [SEP]; both stay. `continues[t]` is True where token t
    goes on with the word before. At least one word is hidden where there is one.
    """
    words: list[list[int]] = []
    for place in range(1, len(row) - 1):
        if words and continues[row[place]]:
            words[-1].append(place)
        else:
            words.append([place])
    n_hidden = min(len(words), max(1, round(share * len(words))))
    chosen = generator.permutation(len(words))[:n_hidden]
    places = sorted(place for word in chosen for place in words[word])
    read = list(row)
    for place in places:
        draw = generator.random()
        if draw < REPLACED:
            read[place] = mask_token
        elif draw < KEPT:
            read[place] = int(generator.integers(len(continues)))
    return read, places


def visibility(mask: torch.Tensor, share: float) -> torch.Tensor:
    """Which tokens each row of the decoder may read: bool `[B, L, L]` (Xiao et al. 2022, § 3.2).

    Row i reads position 0, where [CLS] is, and each other position with probability `share`, but
    never itself and never padding, which is where `mask` bool `[B, L]` is False. Row 0 predicts
    nothing; it reads position 0 so that its softmax is over something. Drawn from torch's
    generator.
    """
    n_rows, length = mask.shape
    seen = torch.rand((n_rows, length, length), device=mask.device) < share
    seen &= mask[:, None, :]
    seen &= ~torch.eye(length, dtype=torch.bool, device=mask.device)
    seen[:, :, 0] = True
    return seen
