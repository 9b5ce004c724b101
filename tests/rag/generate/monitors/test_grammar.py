"""Grammars through llguidance: whatever the model wants, the text is of the language."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema_rs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import ToyModel

from indexes.errors import InvalidInput, Unsupported
from rag.answer import Decode, Grammar
from rag.generate.constraint import ConstraintTrack
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import Generation, generate
from rag.generate.monitors.grammar import GrammarMonitor
from rag.generate.shown import Shown
from rag.generate.steering import open_steering
from rag.generate.torch_model import TorchModel

NOTHING = Shown([], "", list)


class RandomBytes(ToyModel):
    """Random logits over the tokens of a real tokenizer: it wants anything at all."""

    def __init__(self, real: TorchModel, seed: int) -> None:
        super().__init__(real.vocabulary_size, seed=seed, order=3, eos_ids=real.eos_ids)
        self.tokenizer = real.tokenizer


def written(model: Any, decode: Decode, evidence: Shown = NOTHING) -> Generation:
    steering = open_steering(decode, model, evidence, 1).steering
    return generate(model, [65], decode, steering=steering, drafting=Drafting(DraftMemory()))


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """Objects, arrays, enums, numbers and strings, nested up to three deep."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const"]
    kind = rng.choice(kinds + ["object", "array", "anyOf"] * (depth < 2))
    match kind:
        case "object":
            names = rng.sample(["name", "id", "tags", "é", "a b", "x"], rng.randint(0, 4))
            required = rng.sample(names, rng.randint(0, len(names)))
            properties = {name: random_schema(rng, depth + 1) for name in names}
            return {"type": "object", "properties": properties, "required": required,
                    "additionalProperties": False}  # fmt: skip
        case "array":
            low = rng.randint(0, 2)
            return {"type": "array", "items": random_schema(rng, depth + 1), "minItems": low,
                    "maxItems": low + rng.randint(0, 2)}  # fmt: skip
        case "anyOf":
            return {"anyOf": [random_schema(rng, depth + 1) for _ in range(2)]}
        case "enum":
            return {"enum": rng.sample(["red", "blue", 1, 2.5, None, True], rng.randint(1, 4))}
        case "const":
            return {"const": rng.choice(["fixed", 7, False])}
        case "string":
            low = rng.randint(0, 3)
            return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 6)}
        case "integer" | "number":
            low = rng.randint(-50, 50)
            return {"type": kind, "minimum": low, "maximum": low + rng.randint(1, 99)}
    return {"type": kind}


def check_schemas(model: TorchModel, n_schemas: int, seed: int) -> None:
    rng = random.Random(seed)
    n_finished = 0
    for number in range(n_schemas):
        schema = random_schema(rng)
        drafter = "auto" if number % 2 else "none"
        grammar = Grammar(json_schema=schema)
        decode = Decode(300, 1.0, seed=number, drafter=drafter, grammar=grammar)
        made = written(RandomBytes(model, number), decode)
        if made.finish_reason == "stop":
            n_finished += 1
            jsonschema_rs.validate(schema, json.loads(made.text))
    assert n_finished > 0.9 * n_schemas


def test_json_always_validates(tiny: TorchModel) -> None:
    check_schemas(tiny, 25, seed=1)


@pytest.mark.slow
def test_json_of_500_schemas_always_validates(tiny: TorchModel) -> None:
    check_schemas(tiny, 500, seed=2)


def test_without_a_grammar_it_is_no_json(tiny: TorchModel) -> None:
    """Negative control."""
    made = written(RandomBytes(tiny, 1), Decode(50, 1.0, seed=1))
    with pytest.raises(json.JSONDecodeError):
        json.loads(made.text)


@pytest.mark.parametrize("pattern", [r"[0-9]{4}-[0-9]{2}", r"(yes|no)( maybe)?", r"a+b*c{2,3}"])
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
@settings(max_examples=5, deadline=None)
def test_a_text_matches_the_regex(tiny: TorchModel, pattern: str, seed: int, temperature) -> None:
    decode = Decode(60, temperature, seed=seed % 1000, grammar=Grammar(regex=pattern))
    made = written(RandomBytes(tiny, seed), decode)
    assert made.finish_reason == "length" or re.fullmatch(pattern, made.text)


def test_a_text_belongs_to_the_lark_grammar(tiny: TorchModel) -> None:
    lark = 'start: item (";" item)*\nitem: "<" WORD ">"\nWORD: /[a-c]{1,3}/'
    for seed in range(10):
        made = written(
            RandomBytes(tiny, seed), Decode(60, 1.0, seed=seed, grammar=Grammar(lark=lark))
        )
        if made.finish_reason == "stop":
            assert re.fullmatch(r"<[a-c]{1,3}>(;<[a-c]{1,3}>)*", made.text)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 4)), max_size=25))
@settings(max_examples=25, deadline=None)
def test_after_any_rollbacks_masks_are_those_of_a_replay(tiny: TorchModel, steps) -> None:
    grammar = Grammar(regex=r"(ab|ac+)*[0-9]{2}x")

    def fresh() -> ConstraintTrack:
        return ConstraintTrack([GrammarMonitor(grammar, tiny)], [0])

    track, kept = fresh(), list[int]()
    for choice, n_back in steps:
        legal = track.keep(track.n_tokens).nonzero()[:, 0].tolist()
        legal = [token for token in legal if token not in tiny.eos_ids]
        if legal:
            token = legal[choice % len(legal)]
            track.push(token)
            kept.append(token)
        if n_back < 3:
            kept = kept[: max(0, len(kept) - n_back)]
            track.truncate(len(kept))
        replay = fresh()
        for token in kept:
            replay.push(token)
        for position in range(len(kept) + 1):
            assert torch.equal(track.keep(position), replay.keep(position))


def test_what_must_come_is_drafted(tiny: TorchModel) -> None:
    grammar = Grammar(regex=r"the quick brown fox jumps over the lazy dog(!|\?)")
    texts = {}
    for drafter in ("none", "auto"):
        decode = Decode(60, drafter=drafter, grammar=grammar)
        texts[drafter] = written(RandomBytes(tiny, 3), decode)
    assert texts["none"].text == texts["auto"].text
    assert texts["auto"].accepted > 30
    assert texts["auto"].n_rounds < 10


def test_the_grammar_comes_before_the_monitors(tiny: TorchModel) -> None:
    """Where both leave nothing the text is still of the language."""
    evidence = Shown(["only this"], "", list)
    grammar = Grammar(regex=r'"never" [0-9]')
    decode = Decode(40, grammar=grammar, monitors=["quote", "numbers"])
    made = written(RandomBytes(tiny, 5), decode, evidence)
    assert re.fullmatch(r'"never" [0-9]', made.text)
    free = Decode(40, grammar=Grammar(regex=r'"[a-z ]{4}"'), monitors=["quote"])
    assert written(RandomBytes(tiny, 5), free, evidence).text.strip('"') in "only this"


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(),
        Grammar(regex="a", lark="start: /a/"),
        Grammar(regex="(a"),
        Grammar(lark="start: nothing"),
        Grammar(json_schema={"type": "nonsense"}),
        Grammar(json_schema={"$ref": "#/nowhere"}),
    ],
)
def test_grammars_that_are_none(tiny: TorchModel, grammar: Grammar) -> None:
    with pytest.raises(InvalidInput) as caught:
        GrammarMonitor(grammar, tiny)
    assert caught.value.pointer == "/decode/grammar"


def test_a_model_whose_tokens_are_not_known() -> None:
    with pytest.raises(Unsupported):
        GrammarMonitor(Grammar(regex="a"), ToyModel(4))
