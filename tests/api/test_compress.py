"""`/v1/compress` over HTTP: slices with their places, hits of a search as they are, and limits."""

import pytest

TEXT = "Penicillin kills bacteria. It was found by Fleming. 🧫 البنسلين مضاد حيوي."


def compress(client, **body):
    return client.post("/v1/compress", json=body)


def compressed(client, **body):
    response = compress(client, **body)
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["request_id"] == response.headers["x-request-id"]
    return found


def check_spans(found, texts):
    for span in found["spans"]:
        source = texts[span["hit"]][span["source_start"] : span["source_end"]]
        assert found["text"][span["start"] : span["end"]] == source
    assert found["kept_tokens"] + found["dropped_tokens"] == found["original_tokens"]


def test_a_text(client):
    found = compressed(client, text=TEXT, query="Who found penicillin?", rate=0.7)
    check_spans(found, [TEXT])
    assert "Fleming" in found["text"]
    assert found["kept_tokens"] == len(found["text"]) <= 0.7 * len(TEXT)
    assert found["ratio"] == pytest.approx(len(TEXT) / len(found["text"]), abs=1e-3)
    assert found["words"] == found["warnings"] == []
    assert compressed(client, text=TEXT, rate=0.7)["warnings"]


def test_hits_of_a_search_are_passed_on_as_they_are(client):
    search = client.post("/v1/search", json={"index": "few", "query": "discovered by"}).json()
    hits = search["hits"]
    assert len(hits) == 2
    found = compressed(client, hits=hits, query="discovered by", rate=0.6, explain=True)
    texts = [hit["text"] for hit in hits]
    check_spans(found, texts)
    assert [hit["id"] for hit in found["hits"]] == [hit["id"] for hit in hits]
    left = [found["text"][hit["start"] : hit["end"]] for hit in found["hits"]]
    assert "\n\n".join(text for text in left if text) == found["text"]
    for word in found["words"]:
        inside = any(
            span["hit"] == word["hit"]
            and span["source_start"] <= word["start"] < word["end"] <= span["source_end"]
            for span in found["spans"]
        )
        assert inside == word["kept"]
        assert 0 <= word["relevance"] <= 1
        assert word["preserve"] is None


@pytest.mark.parametrize(("rate", "left"), [(1, TEXT), (0, "")])
def test_the_ends_of_the_scale(client, rate, left):
    found = compressed(client, text=TEXT, rate=rate)
    assert found["text"] == left
    assert found["ratio"] == (1.0 if rate else None)
    assert compressed(client, text="", rate=rate)["ratio"] == 1.0


def test_protected_places(client):
    place = {"start": TEXT.index("🧫"), "end": TEXT.index("🧫") + 1}
    found = compressed(client, text=TEXT, rate=0.02, protected=[place])
    assert found["text"] == "🧫"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"text": "a", "hits": [{"text": "b"}]}, "/hits"),
        ({"text": "a", "protected": [{"start": 0, "end": 2}]}, "/protected/0"),
        ({"text": "a", "protected": [{"start": 1, "end": 0}]}, "/protected/0"),
        ({"text": "a", "protected": [{"start": 0, "end": 1, "hit": 1}]}, "/protected/0"),
        ({"text": "a", "rate": 1.5}, "/rate"),
        ({"text": "a", "target_tokens": -1}, "/target_tokens"),
        ({"text": 1}, "/text"),
        ({"txt": "a"}, "/txt"),
    ],
)
def test_what_is_wrong_is_named(client, is_problem, body, pointer):
    problem = is_problem(compress(client, **body), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == pointer
