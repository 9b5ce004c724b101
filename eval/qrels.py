"""Relevance judgements: which document answers which query, and how well."""

from __future__ import annotations

from pathlib import Path

from eval.lines import numbered_lines
from indexes.errors import InvalidInput

Qrels = dict[str, dict[str, int]]
"""Query id to document id to relevance. 0 and below is not relevant."""

_HEADER_STARTS = frozenset({"query-id", "query_id", "queryid", "query", "qid", "topic"})


def read_qrels(path: Path) -> Qrels:
    """Read judgements: `query, document, score` (BEIR) or `query, 0, document, score` (TREC).

    A header is told by its first word, so that a bad number in the first line is still an error.
    Columns are separated by tabs where there are tabs, else by white space. The same judgement
    twice is harmless; two different ones for one pair are an error.

    Raises `InvalidInput` with the line number, and when there is no judgement at all.
    """
    qrels: Qrels = {}
    for number, line in numbered_lines(path):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if number == 1 and cells[0].lower() in _HEADER_STARTS:
            continue
        query_id, document_id, relevance = _judgement(path, number, cells)
        known = qrels.setdefault(query_id, {}).setdefault(document_id, relevance)
        if known != relevance:
            raise InvalidInput(
                f"{path}, line {number}: document {document_id!r} is judged {known} and "
                f"{relevance} for query {query_id!r}"
            )
    if not qrels:
        raise InvalidInput(f"{path} holds no judgement")
    return qrels


def _judgement(path: Path, number: int, cells: list[str]) -> tuple[str, str, int]:
    if len(cells) not in (3, 4):
        raise InvalidInput(
            f"{path}, line {number}: expected 3 columns (query, document, score) or 4 (query, 0, "
            f"document, score), found {len(cells)}"
        )
    query_id, document_id, score = cells[0], cells[-2], cells[-1]
    if not query_id or not document_id:
        raise InvalidInput(f"{path}, line {number}: an id is empty")
    try:
        return query_id, document_id, int(score)
    except ValueError as error:
        raise InvalidInput(
            f"{path}, line {number}: the score {score!r} is not a whole number"
        ) from error
