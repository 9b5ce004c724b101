"""The weights that come with the product: they point where they should, whatever the script."""

from __future__ import annotations

import pytest

from indexes.errors import EvidentError
from indexes.sentences import sentence_spans
from rag.config import Settings
from rag.gear.locator import Locator
from rag.gear.opening import locator_of
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec

PENICILLIN = (
    "Penicillin is an antibiotic. It was discovered by Alexander Fleming in 1928. "
    "It kills many bacteria. Radium was found by Marie Curie."
)
LONG = (
    "The town lies on a river. " * 60 + "The mayor is called Anna Smith. " + "Trains leave. " * 80
)

CASES = [
    ("who discovered penicillin?", PENICILLIN, "Fleming"),
    ("when was penicillin found?", PENICILLIN, "1928"),
    ("what is the mayor called?", LONG, "Anna Smith"),
    ("企鹅会飞吗?", "鲸鱼是哺乳动物。企鹅不会飞。狗喜欢骨头。", "企鹅"),
    ("ما فائدة الماء", "البنسلين مضاد حيوي. الماء مفيد للصحة. القطط تنام كثيرا.", "الماء"),
    ("who came", "no end here and nobody came", "nobody"),
    ("word?", "word", "word"),
]


@pytest.fixture(scope="module")
def locator() -> Locator:
    settings = Settings()
    try:
        resolve("all-minilm-l6-v2", settings.cache)
    except EvidentError:
        pytest.skip("the base model is not in the cache: rag models pull --all-defaults")
    return locator_of(settings)


@pytest.mark.slow
@pytest.mark.parametrize(("question", "text", "told"), CASES)
def test_the_sentence_that_answers_is_first(locator, question, text, told):
    (found,) = locator.locate(question, [("", text)])
    assert sorted((one.start, one.end) for one in found) == sentence_spans(text)
    assert told in text[found[0].start : found[0].end]


@pytest.mark.slow
def test_all_hits_in_one_pass_come_out_as_alone(locator):
    documents = [("", text) for _, text, _ in CASES]
    together = locator.locate("who discovered penicillin?", documents)
    for document, one in zip(documents, together, strict=True):
        (alone,) = locator.locate("who discovered penicillin?", [document])
        scores = {(s.start, s.end): s.score for s in alone}
        # Half precision rounds otherwise in another batch.
        assert all(s.score == pytest.approx(scores[s.start, s.end], abs=0.05) for s in one)


@pytest.mark.slow
def test_it_retrieves(locator):
    settings = Settings()
    entry = entry_of(parse_spec("gear"), settings, Silent())
    retriever = open_retriever(entry, None, settings)  # type: ignore[arg-type]
    passages = [PENICILLIN, "Nobody came to the party.", "Trains leave every hour."]
    rows = retriever.encode_passages(passages, lambda _: None).dense
    questions = ["when was penicillin found?", "who came to the party", "when do trains leave"]
    for number, query in enumerate(retriever.encode_queries(questions)):
        assert (rows @ query.vector.dense).argmax() == number
