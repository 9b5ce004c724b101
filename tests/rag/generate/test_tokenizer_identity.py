"""Two models draft for each other only when their token ids mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import generate
from rag.generate.tokenizer_identity import check_same_tokenizer
from rag.generate.torch_model import TorchModel


class Letters:
    """Ids are places in an alphabet; those beyond it are padding."""

    def __init__(self, alphabet: str, special: frozenset[str] = frozenset({"<s>"})) -> None:
        self._alphabet = alphabet
        self.special_tokens = special

    def encode(self, text: str) -> list[int]:
        return [at for ch in text if (at := self._alphabet.find(ch)) >= 0]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self._alphabet[id_] for id_ in token_ids if id_ < len(self._alphabet))

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        return self.encode("".join(text for _, text in messages))


def model(alphabet: str, *, padding: int = 0, eos: int = 0, **options: Any) -> Any:
    size = len(alphabet) + padding
    tokenizer = Letters(alphabet, **options)
    return SimpleNamespace(
        name=f"m{size}", tokenizer=tokenizer, vocabulary_size=size, eos_ids=frozenset({eos})
    )


MANY = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (model("abdc"), "tokenizers"),
        (model("abcd", eos=1), "end-of-text"),
        (model("abcd", special=frozenset()), "special"),
    ],
)
def test_differences_are_named(other: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_same_tokenizer(model("abcd"), other)


def test_one_id_that_differs_is_found() -> None:
    swapped = MANY[:2500] + MANY[2501] + MANY[2500] + MANY[2502:]
    with pytest.raises(InvalidInput, match="vocabularies"):
        check_same_tokenizer(model(MANY), model(swapped))
    with pytest.raises(InvalidInput, match="vocabularies"):
        check_same_tokenizer(model(MANY), model(MANY + "\u5a00"))
    check_same_tokenizer(model(MANY), model(MANY))


def test_padding_may_differ() -> None:
    check_same_tokenizer(model("abcd"), model("abcd", padding=700))
    check_same_tokenizer(model("abcd", padding=5), model("abcd"))


def test_real_tokenizers(tiny: TorchModel, tiny_sliding: TorchModel) -> None:
    check_same_tokenizer(tiny, tiny)
    check_same_tokenizer(tiny, tiny_sliding)


def test_another_model_with_the_tokenizer_drafts(
    tiny: TorchModel, tiny_sliding: TorchModel
) -> None:
    prompt = list(range(20))
    plain = generate(tiny, prompt, Decode(12))
    decode = Decode(12, drafter="rapid", draft_tokens=3, verifier="lossless")
    drafting = Drafting(DraftMemory(), tiny_sliding, prompt[:4])
    assert generate(tiny, prompt, decode, drafting=drafting).token_ids == plain.token_ids


@pytest.mark.parametrize("padding", [-3, 5])
def test_a_drafter_of_another_width(padding: int) -> None:
    from toy_models import ToyModel

    target = ToyModel(12, seed=1)
    drafter = ToyModel(12 + padding, seed=1)
    # The tokens both have keep their logits; padding would win if it were let through.
    drafter.logits = (
        lambda prefix: torch.cat(  # type: ignore[method-assign]
            [target.logits(prefix)[: 12 + padding], torch.full((max(0, padding),), 99.0)]
        )
    )
    plain = generate(target, [1, 2], Decode(20))
    if padding < 0 and max(plain.token_ids) >= 12 + padding:
        plain = generate(target, [1, 2], Decode(1))
    n_tokens = len(plain.token_ids)
    decode = Decode(n_tokens, drafter="rapid", draft_tokens=3, verifier="lossless")
    ours = generate(target, [1, 2], decode, drafting=Drafting(DraftMemory(), drafter, [1, 2]))
    assert ours.token_ids == plain.token_ids
