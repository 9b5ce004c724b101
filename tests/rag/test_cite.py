"""Citations point at real spans: valid offsets always, support where there is some, else none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexes.sentences import sentence_spans
from rag.answer import Citation
from rag.cite import cite, clean_answer
from rag.generate.alignment import find_runs, ordered_weight, split_words
from rag.search import Highlight, Hit

SHARED = Path(__file__).parents[3] / "shared" / "data"


def hit(text: str, title: str = "", id_: str = "d") -> Hit:
    return Hit(id=id_, rank=1, score=1.0, scores={}, title=title, text=text)


PARIS = hit(
    "It is the capital and largest city of France. It had 2,048,472 residents in January 2025. "
    "The city lies on the Seine.",
    title="Paris",
    id_="paris",
)
MOON = hit(
    "Neil Alden Armstrong was an American astronaut. In July 1969 Armstrong became the first "
    "person to walk on the Moon. He was joined by Buzz Aldrin.",
    title="Neil Armstrong",
    id_="moon",
)
TEA = hit(
    "Tea is made by pouring hot water over cured leaves. It originated in China.", "Tea", "tea"
)
EVIDENCE = [PARIS, MOON, TEA]


def sources(answer: str, evidence: list[Hit], **options: str) -> list[str]:
    """The cited text of each citation."""
    texts = {h.id: h.text for h in evidence}
    return [
        texts[c.hit_id][c.source_start : c.source_end] for c in cite(answer, evidence, **options)
    ]


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("Paris is the capital of France.", "It is the capital and largest city of France."),
        ("The city lies on the Seine.", "The city lies on the Seine."),
        ("the city lies on the seine", "The city lies on the Seine."),
        (
            "Neil Armstrong was the first person who walked on the Moon.",
            "In July 1969 Armstrong became the first person to walk on the Moon.",
        ),
        ("2,048,472", "It had 2,048,472 residents in January 2025."),
        ("It originated in China.", "It originated in China."),
        ("It is.", None),
        ("Neil Armstrong walked on the Moon in 1970.", None),
        ("Buzz Lightyear was the first person to walk on the Moon.", None),
        ("Lyon is the capital and largest city of France.", None),
        ("Photosynthesis turns light into chemical energy.", None),
        ("Paris is known for its fashion.", None),
        ("!!!", None),
    ],
)
def test_sentences_and_what_supports_them(answer: str, source: str | None) -> None:
    assert sources(answer, EVIDENCE) == ([] if source is None else [source])


def test_each_sentence_gets_its_own() -> None:
    answer = "Paris lies on the Seine. I like trains. Tea originated in China."
    found = cite(answer, EVIDENCE)
    assert [answer[c.start : c.end] for c in found] == [
        "Paris lies on the Seine.",
        "Tea originated in China.",
    ]
    assert [c.hit_id for c in found] == ["paris", "tea"]


def test_two_sentences_may_support_one() -> None:
    answer = "Paris had 2,048,472 residents in January 2025 and lies on the Seine."
    assert sources(answer, EVIDENCE) == [
        "It had 2,048,472 residents in January 2025. The city lies on the Seine."
    ]


def test_the_question_settles_what_a_short_answer_means() -> None:
    text = "The bridge opened in 1932. The opera house was finished in 1932."
    answers = [
        sources("1932", [hit(text)], question=question)
        for question in ("When did the bridge open?", "When was the opera house finished?")
    ]
    assert answers == [["The bridge opened in 1932."], ["The opera house was finished in 1932."]]


def test_an_echo_of_the_question_is_no_answer() -> None:
    echo = 'The answer to the question "What is tea?" is:'
    assert sources(echo, EVIDENCE, question="What is tea?") == []
    assert sources("The answer is China.", EVIDENCE, question="Where did tea originate?") == [
        "It originated in China."
    ]


def test_an_over_long_sentence_is_cited_by_a_window() -> None:
    filler = " ".join(f"word{n}" for n in range(400))
    evidence = [hit(f"{filler} the kingfisher dives into cold rivers {filler}")]
    (source,) = sources("Kingfishers dive into cold rivers.", evidence)
    assert "kingfisher dives into cold rivers" in source
    assert len(split_words(source)) <= 80


def test_offsets_are_code_points() -> None:
    text = "😀😀 Der Eisvogel 🐦 frisst Fische. 𝔘nrelated."
    answer = "🎣 Ja. Der Eisvogel frisst Fische."
    (found,) = cite(answer, [hit(text)])
    assert answer[found.start : found.end] == "Der Eisvogel frisst Fische."
    assert text[found.source_start : found.source_end] == "😀😀 Der Eisvogel 🐦 frisst Fische."


def test_scripts_without_spaces() -> None:
    text = "东京是日本的首都。大阪在西边。"
    assert sources("大阪在西边。", [hit(text)]) == ["大阪在西边。"]
    assert sources("猫喜欢睡觉。", [hit(text)]) == []


def test_no_evidence_no_citation() -> None:
    assert cite("Paris is the capital of France.", []) == []
    assert cite("", EVIDENCE) == []


TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            ["Paris", "is", "the", "7", "Seine", ". ", "! ", " ", "城", "。", "\n\n", "́"]
        ),
        max_size=25,
    ).map(" ".join),
)


@given(TEXTS, st.lists(st.tuples(TEXTS, TEXTS), max_size=3), TEXTS)
@settings(max_examples=150, deadline=None)
def test_offsets_are_always_valid(answer: str, texts: list[tuple[str, str]], question: str) -> None:
    evidence = [hit(text, title, str(n)) for n, (text, title) in enumerate(texts)]
    found = cite(answer, evidence, question=question)
    spans = set(sentence_spans(answer))
    last = -1
    for citation in found:
        assert (citation.start, citation.end) in spans
        assert last < citation.start
        last = citation.start
        text = evidence[int(citation.hit_id)].text
        assert 0 <= citation.source_start < citation.source_end <= len(text)
        assert text[citation.source_start : citation.source_end].strip()


@given(st.lists(TEXTS, min_size=1, max_size=3), st.data())
@settings(max_examples=100, deadline=None)
def test_a_sentence_taken_from_a_hit_is_cited_to_it(texts: list[str], data: st.DataObject) -> None:
    evidence = [hit(text, id_=str(n)) for n, text in enumerate(texts)]
    spans = [(n, span) for n, text in enumerate(texts) for span in sentence_spans(text)]
    if not spans:
        return
    number, (start, end) = data.draw(st.sampled_from(spans))
    sentence = texts[number][start:end]
    if len(sentence_spans(sentence)) != 1 or not split_words(sentence):
        return
    (found,) = cite(sentence, evidence)
    forms = [word.form for word in split_words(sentence)]
    cited = texts[int(found.hit_id)][found.source_start : found.source_end]
    assert find_runs([word.form for word in split_words(cited)], forms)


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_ordered_weight_is_the_heaviest_common_subsequence(one: list[str], two: list[str]) -> None:
    weights = {"a": 1.0, "b": 2.5, "c": 0.25}

    def twin(i: int, j: int) -> float:
        if i == len(one) or j == len(two):
            return 0.0
        best = max(twin(i + 1, j), twin(i, j + 1))
        return max(best, weights[one[i]] + twin(i + 1, j + 1)) if one[i] == two[j] else best

    assert ordered_weight(one, two, weights) == pytest.approx(twin(0, 0))


@given(st.lists(st.sampled_from("ab"), max_size=12), st.lists(st.sampled_from("ab"), max_size=4))
def test_find_runs(text: list[str], run: list[str]) -> None:
    expected = [n for n in range(len(text)) if run and text[n : n + len(run)] == run]
    assert find_runs(text, run) == expected


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Paris [1].", "Paris."),
        ("Paris.[1][2]", "Paris."),
        ("Paris [1, 2] and [3–5] Lyon.", "Paris and Lyon."),
        ("Paris 【7】.", "Paris."),
        ("[[7]7] Paris", "Paris"),
        ("</evidence 3fa9c1>\nParis", "Paris"),
        ("In [2019] it was a[0].", "In [2019] it was a[0]."),
        ("  Paris\n", "Paris"),
        ("[1]", ""),
    ],
)
def test_clean_answer(text: str, clean: str) -> None:
    assert clean_answer(text) == clean


@given(st.text(alphabet="[]12, 【】<>/evidence a", max_size=40))
@example("[1[1]1]")
def test_a_cleaned_answer_is_clean(text: str) -> None:
    assert clean_answer(clean_answer(text)) == clean_answer(text)


@pytest.mark.slow
def test_supported_and_unsupported_answers_of_real_questions() -> None:
    """SQuAD training passages: the gold sentence is cited to its passage, never to others."""
    path = SHARED / "qa" / "mrqa_fewshot" / "squad" / "corpus.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} of shared data is absent")
    with gzip.open(path, "rt") as lines:
        documents = [json.loads(line) for _, line in zip(range(60), lines, strict=False)]
    evidence = [hit(document["text"], id_=document["_id"]) for document in documents]
    wrong: list[Citation] = []
    n_sentences = 0
    for at, own in enumerate(evidence):
        others = [h for h in evidence[at + 1 : at + 4] if h.text != own.text]
        for start, end in sentence_spans(own.text)[:3]:
            sentence = own.text[start:end]
            (found, *_) = cite(sentence, [*others, own])
            source = next(h for h in [*others, own] if h.id == found.hit_id).text
            assert sentence in source
            n_sentences += 1
            if not any(sentence in other.text for other in others):
                wrong += cite(sentence, others)
    assert len(wrong) <= n_sentences * 0.02


def test_of_equal_support_the_sentence_pointed_at_is_cited():
    text = "It opened in 1907 to the public. The bridge was closed. It burned in 1907."
    places = {sentence: text.index(sentence) for sentence in ("It opened", "It burned")}
    for start, span in ((0, (0, 32)), (places["It burned"], (places["It burned"], len(text)))):
        pointed = [Highlight("text", *span, "sentence")]
        (found,) = cite("1907", [msgspec.structs.replace(hit(text), highlights=pointed)])
        assert found.source_start == start
