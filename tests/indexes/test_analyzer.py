"""The analyzer: what becomes a term, and that the fast paths agree with the slow one."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from indexes.analyzer import ENGLISH_STOP_WORDS, MAX_TERM_CHARS, Analyzer, AnalyzerConfig
from indexes.errors import UsageError
from indexes.scripts import MAYBE_UNSPACED, UNSPACED

SCIFACT = Path(__file__).parents[3] / "shared" / "data" / "beir" / "scifact"

PLAIN = AnalyzerConfig(stemmer="none", stopwords="none")
DEFAULT = Analyzer()
UNSTEMMED = Analyzer(PLAIN)

TERMS = [
    ("The runners' Runner's running", ["the", "runners", "runner", "running"]),
    ("don't O’Neill's it’s", ["don't", "o'neill", "it"]),
    ("U.S. US u.s.a. e.g. A.B.cd", ["us", "us", "usa", "eg", "a", "b", "cd"]),
    ("3.14 1,000.5 1, 2. v1.2.3 10.0.0.1", ["3.14", "1,000.5", "1", "2", "v1.2.3", "10.0.0.1"]),
    ("example.com snake_case IL-6 p53", ["example", "com", "snake", "case", "il", "6", "p53"]),
    ("Café naïve Ångström Ελλάδα Й ø", ["cafe", "naive", "angstrom", "ελλαδα", "й", "ø"]),
    ("Straße ΣΑΣ Σας İ", ["strasse", "σασ", "σασ", "i"]),
    ("ＡＢＣ１ CO₂ ﬁne", ["abc1", "co2", "fine"]),
    ("co\u00adoperate می\u200cخواهم a\u200bb", ["cooperate", "میخواهم", "a", "b"]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    ("שלום צה״ל", ["שלום", "צה״ל"]),
    ("日本語 2024年", ["日本", "本語", "2024", "年"]),
    ("ガギ ｶﾞｷﾞ カ\u3099キ\u3099", ["ガギ", "ガギ", "ガギ"]),
    ("한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8", ["한국", "국어", "한국"]),
    ("ไทยนี้", ["ไท", "ทย", "ยนี้"]),
    ("데이터를search用", ["데이", "이터", "터를", "search", "用"]),
    ("👍🏽 👍 ❤️ 👩‍🚀 🇩🇪🇫🇷 a😀b", ["👍", "👍", "❤", "👩🚀", "🇩🇪", "🇫🇷", "a", "😀", "b"]),
    ("© ™ — … +++ \u0301 \u200d", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "terms"), TERMS)
def test_terms(text: str, terms: list[str]) -> None:
    assert UNSTEMMED.terms(text) == terms
    assert [token.term for token in UNSTEMMED.tokens(text)] == terms


def test_defaults_stop_and_stem() -> None:
    assert DEFAULT.terms("The relational databases were not there") == ["relat", "databas", "were"]
    assert len(ENGLISH_STOP_WORDS) == 33
    assert DEFAULT.terms(" ".join(ENGLISH_STOP_WORDS)) == []
    assert DEFAULT.terms("") == DEFAULT.terms(" \n") == DEFAULT.tokens("?!") == []


def test_options() -> None:
    single = Analyzer(AnalyzerConfig(cjk_bigrams=False))
    assert single.terms("日本語 ไทย") == ["日", "本", "語", "ไ", "ท", "ย"]
    accents = Analyzer(AnalyzerConfig(stemmer="german", stopwords="none", fold_accents=False))
    assert accents.terms("Häuser") == ["haus"]
    assert Analyzer(AnalyzerConfig(fold_accents=False, stemmer="none")).terms("CAFE\u0301") == [
        "café"
    ]
    with pytest.raises(UsageError, match="unknown stemmer 'klingon'"):
        Analyzer(AnalyzerConfig(stemmer="klingon"))


def test_offsets_point_into_the_original_text() -> None:
    text = "𝔘nicode: ﬁne 日本語 \U0001f600 Runner’s"
    found = [(text[token.start : token.end], token.term) for token in UNSTEMMED.tokens(text)]
    assert found == [
        ("𝔘nicode", "unicode"),
        ("ﬁne", "fine"),
        ("日本", "日本"),
        ("本語", "本語"),
        ("\U0001f600", "\U0001f600"),
        ("Runner’s", "runner"),
    ]


def test_long_tokens_stay_distinct_and_bounded() -> None:
    one, other = "ACGT" * 100, "ACGT" * 100 + "A"
    (first,), (second,) = DEFAULT.terms(one), DEFAULT.terms(other)
    assert first != second
    assert first[:48] == second[:48] == ("acgt" * 100)[:48]
    assert len(first) == MAX_TERM_CHARS
    assert DEFAULT.terms(one.lower()) == [first]
    assert DEFAULT.terms("x" * 10_000_000) == DEFAULT.terms("X" * 10_000_000)


def test_fingerprint_follows_the_configuration() -> None:
    assert Analyzer().fingerprint() == Analyzer(AnalyzerConfig()).fingerprint()
    configs = [
        AnalyzerConfig(),
        PLAIN,
        AnalyzerConfig(stemmer="english"),
        AnalyzerConfig(cjk_bigrams=False),
        AnalyzerConfig(fold_accents=False),
    ]
    assert len({Analyzer(config).fingerprint() for config in configs}) == len(configs)
    assert len(Analyzer().fingerprint()) == 64


def test_pickles_by_configuration() -> None:
    copy = pickle.loads(pickle.dumps(Analyzer(PLAIN)))
    assert copy.config == PLAIN
    assert copy.terms("Running") == ["running"]


def test_many_threads_share_one_analyzer() -> None:
    texts = [f"nationalization{n % 97} relational hopping generalizations{n}" for n in range(400)]
    expected = [Analyzer().terms(text) for text in texts]
    shared = Analyzer()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.terms, texts)) == expected


LATIN = "a B é e\u0301 1 ٣ . , ' ’ s 's - _ \u00ad \u200b \u200d \ufe0f ß İ ½ ʼ ㎏ the"
OTHERS = "日 ガ ｶ ﾞ \u3099 ー 한 \u1112\u1161 ไ \u0e35 ន 👩 🏽 🇩 ﷺ ה ״ \u094d हि \U000e0100"
SNIPPETS = st.sampled_from([*LATIN.split(), *OTHERS.split(), " ", " ", "\n", "x" * 70])
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(max_codepoint=127), max_size=80),
    st.lists(SNIPPETS, max_size=24).map("".join),
)


@given(TEXTS, st.sampled_from([DEFAULT, UNSTEMMED, Analyzer(AnalyzerConfig(cjk_bigrams=False))]))
def test_fast_terms_equal_tokens(text: str, analyzer: Analyzer) -> None:
    tokens = analyzer.tokens(text)
    assert analyzer.terms(text) == [token.term for token in tokens]
    assert all(0 <= token.start < token.end <= len(text) and token.term for token in tokens)
    assert all(len(token.term) <= MAX_TERM_CHARS for token in tokens)
    starts = [token.start for token in tokens]
    assert starts == sorted(starts)


@given(TEXTS, st.data())
def test_places_are_the_tokens_of_some_terms(text: str, data: st.DataObject) -> None:
    tokens = DEFAULT.tokens(text)
    there = sorted({token.term for token in tokens})
    terms = data.draw(st.sets(st.sampled_from([*there, "elsewhere"])))
    assert DEFAULT.places(text, terms) == [token for token in tokens if token.term in terms]


@given(TEXTS, TEXTS)
def test_texts_joined_by_a_space_join_their_terms(left: str, right: str) -> None:
    both = DEFAULT.terms(left + " " + right)
    assert both == DEFAULT.terms(left) + DEFAULT.terms(right)


@given(st.text(st.characters(categories=["Ll", "Lu", "Lo", "Nd"]), min_size=1, max_size=30))
def test_no_letter_of_any_script_is_lost(text: str) -> None:
    covered = {at for token in UNSTEMMED.tokens(text) for at in range(token.start, token.end)}
    visible = {at for at, ch in enumerate(text) if not regex.match(r"\p{DI}", ch)}
    assert visible <= covered


@given(st.text(st.characters(categories=["Ll", "Lo"], max_codepoint=0x2FFF), max_size=20))
def test_normal_forms_agree(text: str) -> None:
    nfc, nfd = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert UNSTEMMED.terms(nfc) == UNSTEMMED.terms(nfd)


def test_quick_test_finds_every_unspaced_character() -> None:
    every = "".join(map(chr, range(0x80, sys.maxunicode + 1)))
    unspaced = regex.findall(UNSPACED, every, regex.VERSION1)
    assert len(unspaced) > 100_000
    assert [ch for ch in unspaced if not MAYBE_UNSPACED.match(ch)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["a", "a.", "1.", "a'", "\u0301", "a\u0301", "字", "👩\u200d", "🇩", "é."]
)
def test_a_megabyte_of_anything_takes_no_long_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    assert DEFAULT.terms(text) == DEFAULT.terms(text)  # the test's time limit is the assertion


@pytest.mark.slow
def test_scifact_bm25_reaches_its_published_quality() -> None:
    """Flat BM25 (k1 0.9, b 0.4) is published at nDCG@10 0.679 on SciFact."""
    if not SCIFACT.is_dir():
        pytest.skip("SciFact is absent: ../shared/data/beir/scifact")
    with gzip.open(SCIFACT / "corpus.jsonl.gz", "rt") as file:
        documents = [json.loads(line) for line in file]
    with gzip.open(SCIFACT / "queries.jsonl.gz", "rt") as file:
        queries = {row["_id"]: row["text"] for row in map(json.loads, file)}
    relevant: dict[str, set[str]] = {}
    (qrels,) = (SCIFACT / "qrels").glob("test.tsv")
    for line in qrels.read_text().splitlines()[1:]:
        query, document, score = line.split()
        if int(score) > 0:
            relevant.setdefault(query, set()).add(document)
    index = BM25Okapi(
        [DEFAULT.terms(d["title"] + " " + d["text"]) for d in documents], k1=0.9, b=0.4
    )
    gains = []
    for query, wanted in relevant.items():
        scores = index.get_scores(DEFAULT.terms(queries[query]))
        top = np.argsort(-scores, kind="stable")[:10]
        gain = sum(1 / math.log2(r + 2) for r, n in enumerate(top) if documents[n]["_id"] in wanted)
        gains.append(gain / sum(1 / math.log2(r + 2) for r in range(min(10, len(wanted)))))
    assert len(gains) == 300
    assert sum(gains) / len(gains) == pytest.approx(0.679, abs=0.01)
