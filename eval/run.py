"""Runs: ranked documents per query, and TREC's six-column files that hold them.

A line is `query Q0 document rank score tag`. Readers order a run by its scores and disagree about
ties, and trec_eval reads scores as float32, so two float64 scores can be equal there. What is
written here is strictly decreasing as float32 *and* as float64.
"""

from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.lines import numbered_lines
from indexes.errors import InvalidInput
from indexes.files import write_durably

Run = dict[str, dict[str, float]]
"""Query id to document id to score, higher is better."""

_COLUMNS = 6
_WORD = re.compile(r"\S+")
_SIGNIFICANT_DIGITS = 9
"""Enough to tell any two float32 numbers apart, and far enough from their midpoints (less than
half a unit in the ninth digit) that reading by way of float64 gives back the same float32."""


def strictly_decreasing(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Documents, best first, with scores that are distinct float32 numbers.

    Ties are broken by document id, ascending. A score that is not below the one before it becomes
    the next lower float32. Raises `InvalidInput` for a score that is no finite float32.
    """
    order = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    with np.errstate(over="ignore"):
        values = np.array([score for _, score in order], dtype=np.float64).astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidInput("a score is not a finite number within the range of float32")
    # Float bits, sign folded, are whole numbers in the order of the floats: k_i becomes
    # min over j <= i of (k_j - (i - j)), each at least one step below its predecessor.
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)
    keys = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    steps = np.arange(len(keys))
    keys = np.minimum.accumulate(keys + steps) - steps
    bits = np.where(keys < 0, -keys | 0x80000000, keys).astype(np.uint32)
    lowered = bits.view(np.float32)
    if not np.isfinite(lowered).all():
        raise InvalidInput("the scores leave no room for strictly decreasing float32 numbers")
    return [(document, float(value)) for (document, _), value in zip(order, lowered, strict=True)]


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a six-column run, gzip-compressed where the name ends in `.gz`, in one atomic step.

    The bytes depend on the run alone. Raises `InvalidInput` for ids that the format cannot carry.
    """
    _check_word("tag", tag)
    text = io.StringIO()
    for query_id, scores in run.items():
        _check_word("query id", query_id)
        for rank, (document_id, score) in enumerate(strictly_decreasing(scores), 1):
            _check_word("document id", document_id)
            number = f"{score:.{_SIGNIFICANT_DIGITS}g}"
            text.write(f"{query_id} Q0 {document_id} {rank} {number} {tag}\n")
    data = text.getvalue().encode()
    write_durably(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_run(path: Path) -> Run:
    """Read a six-column run; the order of its lines and its rank column carry no meaning.

    Raises `InvalidInput` with the line number for a wrong number of columns, a rank or score that
    is no number, a score that is NaN or infinite, and a document that is there twice for a query.
    """
    run: Run = {}
    for number, line in numbered_lines(path):
        cells = line.split()
        if len(cells) != _COLUMNS:
            raise InvalidInput(
                f"{path}, line {number}: expected {_COLUMNS} columns, found {len(cells)}"
            )
        query_id, _, document_id, rank, score_text, _ = cells
        try:
            score = float(score_text)
            int(rank)
        except ValueError as error:
            raise InvalidInput(
                f"{path}, line {number}: rank {rank!r} or score {score_text!r} is not a number"
            ) from error
        if not math.isfinite(score):
            raise InvalidInput(f"{path}, line {number}: the score is {score_text}")
        scores = run.setdefault(query_id, {})
        if document_id in scores:
            raise InvalidInput(
                f"{path}, line {number}: document {document_id!r} is there twice for query "
                f"{query_id!r}"
            )
        scores[document_id] = score
    if not run:
        raise InvalidInput(f"{path} holds no ranking")
    return run


def _check_word(what: str, value: str) -> None:
    if not _WORD.fullmatch(value):
        raise InvalidInput(f"the {what} {value!r} is empty or holds white space: no TREC run file")
