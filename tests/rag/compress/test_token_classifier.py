"""Word scores against the model fed one plain text at a time, and what may be loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from test_words import HOSTILE, check_words
from toy_classifiers import PROSE, classifier, save_bert
from transformers import AutoModelForTokenClassification, AutoTokenizer

from indexes.errors import ModelError, UnsafeModel
from rag.models.resolver import resolve

TEXTS = [PROSE, "", "One word.", f"{PROSE} {PROSE}", "  \n", "x"]
hostile = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_scores(folder, text):
    """p(preserve) of each token by transformers alone: (token, start, end, p)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    read = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    places = read.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        found = model(**read).logits.softmax(-1)[0, :, 1].tolist()
    names = tokenizer.convert_ids_to_tokens(read["input_ids"][0])
    return [
        (name, *place, p)
        for name, place, p in zip(names, places, found, strict=True)
        if place[0] < place[1]
    ]


def test_words_score_the_mean_or_the_first_of_their_tokens(bert, bert_folder):
    rows = plain_scores(bert_folder, PROSE)
    words = []
    for name, start, end, p in rows:
        if name.startswith("##"):
            words[-1][1] = end
            words[-1][2].append(p)
        else:
            words.append([start, end, [p]])
    for by, reduce in (("mean", lambda ps: sum(ps) / len(ps)), ("first", lambda ps: ps[0])):
        (scored,) = bert.score([PROSE], by=by)
        assert [list(word) for word in scored.words] == [word[:2] for word in words]
        assert scored.scores == pytest.approx([reduce(ps) for _, _, ps in words], abs=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.5


@pytest.mark.parametrize("name", ["bert", "xlm_roberta"])
def test_batches_and_padding_change_nothing(name, request):
    scorer = request.getfixturevalue(name)
    together = scorer.score(TEXTS)
    alone = [scorer.score([text])[0] for text in TEXTS]
    small = classifier(request.getfixturevalue(f"{name}_folder"), batch_tokens=1)
    for text, one, other, third in zip(TEXTS, together, alone, small.score(TEXTS), strict=True):
        check_words(text, one.words)
        assert one.words == other.words == third.words
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert one.scores == pytest.approx(third.scores, abs=1e-5)


def test_xlm_roberta_words_end_at_spaces_and_punctuation(xlm_roberta):
    text = "state-of-the-art (1994), 我们 today"
    (scored,) = xlm_roberta.score([text])
    assert [text[start:end] for start, end in scored.words] == [
        *("state", "-of", "-the", "-art", "(1994", ")", ",", "我们", "today")
    ]  # fmt: skip


def test_long_texts_are_read_in_pieces_that_end_with_sentences(tmp_path):
    scorer = classifier(save_bert(tmp_path / "short", positions=89))
    text = " ".join([PROSE] * 3)
    (scored,) = scorer.score([text])
    check_words(text, scored.words)
    first = text[: text.index("Nobody")].rstrip()
    assert scorer.n_tokens([first]) <= 87 < scorer.n_tokens([text[: text.index("!") + 1]])
    (alone,) = scorer.score([first])
    assert scored.scores[: len(alone.scores)] == pytest.approx(alone.scores, abs=1e-5)


@hostile
@given(HOSTILE)
def test_any_text_has_words_and_scores(bert, xlm_roberta, text):
    for scorer in (bert, xlm_roberta):
        (scored,) = scorer.score([text])
        check_words(text, scored.words)
        assert len(scored.scores) == len(scored.words)
        assert all(0 <= score <= 1 for score in scored.scores)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 5_000,
        "\ud800 lone",
        "[SEP] [MASK] </s>",
        "ꙮ" * 600,
        "\x00\x1f",
        "\u202eabc",
        "🏴" * 99,
    ],
)
def test_hostile_texts(bert, xlm_roberta, text):
    for scorer in (bert, xlm_roberta):
        (scored,) = scorer.score([text])
        check_words(text, scored.words)
        assert len(scored.scores) == len(scored.words)


def test_special_tokens_in_a_text_are_text(bert):
    (scored,) = bert.score(["a [SEP] b"])
    assert [end - start for start, end in scored.words] == [1, 1, 3, 1, 1]


def test_a_model_that_reads_the_question(tmp_path, bert_folder):
    folder = shutil.copytree(bert_folder, tmp_path / "asked")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"reads_question": True}))
    scorer = classifier(folder)
    question = "Who found radium?"
    (asked,) = scorer.score([PROSE], question)
    (unasked,) = scorer.score([PROSE])
    assert asked.words == unasked.words
    assert asked.scores != pytest.approx(unasked.scores, abs=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    read = tokenizer(question, "radium", return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        found = model(**read).logits.softmax(-1)[0, :, 1]
    own = slice(-1 - scorer.n_tokens(["radium"]), -1)
    expected = found[own].mean().item()
    assert scorer.score(["radium"], question)[0].scores == pytest.approx([expected], 1e-4)
    (cut,) = scorer.score([PROSE], "why " * 5_000)
    assert cut.words == asked.words


def test_what_cannot_be_loaded_says_so(tmp_path, bert_folder):
    def changed(name, **changes):
        folder = shutil.copytree(bert_folder, tmp_path / name)
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    with pytest.raises(ModelError, match="no token classification head"):
        classifier(changed("other", architectures=["BertModel"]))
    with pytest.raises(ModelError, match=r"layer.2.*not there"):
        classifier(changed("headless", num_hidden_layers=3))
    with pytest.raises(ModelError, match=r"cannot be loaded|3 classes"):
        classifier(changed("three", id2label={"0": "a", "1": "b", "2": "c"}, num_labels=3))
    pickled = shutil.copytree(bert_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UnsafeModel):
        resolve(str(pickled), tmp_path)
