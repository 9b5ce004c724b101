"""Which reader a file or folder of questions wants, by its name and its first record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.beir import read_beir
from eval.corpus_index import Corpus
from eval.lines import json_records
from eval.mrqa import read_mrqa
from eval.qed import read_qed
from eval.question_set import Question, QuestionSet, check_questions
from eval.squad import read_squad
from indexes.errors import InvalidInput, UsageError

_JSON_ENDINGS = (".json", ".json.gz")


def read_questions(path: Path, split: str | None = None) -> QuestionSet:
    """Read a SQuAD file, a QED or MRQA file of JSON lines, or a BEIR folder with answers.

    Raises `NotFound`, `MalformedInput`, `InvalidInput` for what cannot be read, and `UsageError`
    for a split of something that has none.
    """
    if path.is_dir():
        return _read_folder(path, split)
    if split is not None:
        raise UsageError(f"{path} is a file: only a folder has splits")
    if path.name.endswith(_JSON_ENDINGS):
        return read_squad(path)
    first = _first_record(path)
    if "question_text" in first:
        return read_qed(path)
    if "qas" in first or "header" in first:
        return read_mrqa(path)
    raise InvalidInput(
        f"{path} is neither QED (question_text) nor MRQA (qas): it has {', '.join(first)}"
    )


def _read_folder(folder: Path, split: str | None) -> QuestionSet:
    dataset = read_beir(folder, split)
    questions = [
        Question(
            query.id,
            query.text,
            query.answers,
            frozenset(key for key, gain in dataset.qrels[query.id].items() if gain > 0),
        )
        for query in dataset.queries.values()
    ]
    checked = check_questions(questions, str(folder))
    return QuestionSet(dataset.name, dataset.split, checked, Corpus(dataset.documents, folder))


def _first_record(path: Path) -> dict[str, Any]:
    for _, record in json_records(path, dict):
        return record
    raise InvalidInput(f"{path} holds no record")
