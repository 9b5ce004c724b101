"""How large a decoder's activations get, channel by channel, on a text that always is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from indexes.errors import ModelError
from rag.models.decoder_graph import Floats, Tensors, write_decoder_graph
from rag.models.decoder_shape import DecoderShape
from rag.models.graph_writer import GRAPH

TEXT = """Answer the question from the evidence below, and name the passages that you used.

[1] The kingfisher is a small bird with a long, dagger-like bill. It waits on a branch above clear \
water and dives for fish; a pair digs a tunnel of 60 to 90 cm into the bank and lays five to seven \
eggs. In hard winters up to 80% of a population may die, which two broods a year make up for.

[2] In 1851, Ada Whitcombe, then 34, sold her share of the mill at Hexley to her brother for \
£2,400 and sailed to Boston; her letters (see "Collected Letters", vol. II, pp. 118-131) describe \
the voyage, the price of bread, and a quarrel with the captain that ended in court.

Question: Where does the kingfisher nest, and how many eggs does it lay?
Answer: It digs a tunnel of 60 to 90 cm into a river bank and lays five to seven eggs there [1].

Question: Summarise what was decided about the remote control.
Answer: The group agreed that the casing should be of rubber, that speech recognition costs too \
much, and that marketing will ask twenty users before the next meeting, on Thursday at 10:30.

def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)

| Year | Revenue (million) | Change |
| 2019 | 12.4 | +3.1% |
| 2020 | 9.8 | -21.0% |

Dear Ms. Okafor, thank you for your letter of 3 March. We cannot refund the ticket, because the \
flight was not cancelled but delayed; however, you may ask the airline for 250 euros under \
regulation 261/2004. Yours sincerely, J. P. Lindqvist. https://example.org/help?id=77
"""

MAX_TOKENS = 512


def largest_activations(
    folder: Path, shape: DecoderShape, tensors: Tensors, scratch: Path
) -> dict[str, Floats]:
    """By layer and input ("3.down", "head"), each channel's largest magnitude `[n_in]` on `TEXT`.

    Computed by the int4 graph, which is small and close to the weights; it is written below
    `scratch` and removed. Raises `ModelError` for a model's folder without a tokenizer.
    """
    import onnxruntime

    token_ids = _token_ids(folder, min(MAX_TOKENS, shape.context_length))
    with tempfile.TemporaryDirectory(dir=scratch) as written:
        write_decoder_graph(Path(written), shape, tensors, "int4", watched=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            Path(written) / GRAPH, options, providers=["CPUExecutionProvider"]
        )
        names = [one.name for one in session.get_outputs() if one.name.startswith("largest.")]
        found = session.run(names, _inputs(token_ids, shape))
    return {
        name.removeprefix("largest."): values for name, values in zip(names, found, strict=True)
    }


def _token_ids(folder: Path, n_most: int) -> list[int]:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no tokenizer.json: its activations cannot be measured")
    token_ids: list[int] = Tokenizer.from_file(str(path)).encode(TEXT).ids
    return token_ids[:n_most]


def _inputs(token_ids: list[int], shape: DecoderShape) -> dict[str, object]:
    """One sequence from its beginning, with logits, and so the last layers, for every token."""
    n_tokens = len(token_ids)
    everything = np.arange(n_tokens)
    empty = np.zeros((1, shape.n_kv_heads, n_tokens, shape.head_size), np.float32)
    return {
        "token_ids": np.array(token_ids, np.int64),
        "places": everything[None],
        "taken": everything,
        "n_new": np.array([n_tokens], np.int32),
        "last_positions": np.array([n_tokens - 1], np.int32),
        "n_cached": np.array(n_tokens, np.int32),
        "rows": everything,
    } | {f"{kind}.{layer}": empty for kind in ("keys", "values") for layer in range(shape.n_layers)}
