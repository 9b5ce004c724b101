"""What the answer says of itself."""

from __future__ import annotations

from rag.answer import Citation
from rag.grounding import unsupported


def test_sentences_without_a_citation_are_named():
    answer = "Perth is in Australia. The moon is cheese. It is round."
    first, last = Citation(0, 22, "a", 0, 5), Citation(43, 55, "a", 0, 5)
    assert unsupported(answer, [first, last]) == [
        "not supported by the evidence: The moon is cheese."
    ]
    assert unsupported(answer, [Citation(0, len(answer), "a", 0, 5)]) == []
    assert len(unsupported(answer, [])) == 3
    assert unsupported("", []) == []
