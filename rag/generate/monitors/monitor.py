"""What a monitor over text is: the interfaces for monitors of one's own.

A `Monitor` watches the text. When it is about to become something that the monitor knows about (a
dereference, say, once the text ends in a point), it names everything that may stand there, and the
text goes on with one of these. This is the automaton of monitor-guided decoding (Agrawal et al.
2023, 2306.10763, section 3): `pre` fires, `suggest` is the set A(text), and mask and update follow
from the set, in `rag.generate.monitors.suggesting`.

A `Breaker` knows a mistake only when it is made, such as one argument too many, and takes back the
token that makes it, in `rag.generate.monitors.breaking`.

All of these are functions of the text alone: asked again after a rollback, they say the same. They
are called in one thread at a time, never on an event loop: in one beside that which decodes, and
`suggest` in another one. They may take their time: the model goes on meanwhile (see
`rag.generate.judge`), and each is asked once for a text, only when the text gets there, or when the
model gives a token that leads there a probability worth asking for.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Monitor(Protocol):
    """Suggests what comes next."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    @property
    def word(self) -> bytes:
        """ASCII characters that words are made of: after a whole suggestion none of them follows.

        Characters beyond ASCII count as such too.
        """

    def triggers(self, text: str) -> bytes:
        """ASCII characters after which `pre` may be true, within the token that follows `text`."""

    def pre(self, text: str) -> bool:
        """Whether the text, which ends in a trigger, is about to become the monitor's business."""

    def suggest(self, text: str) -> frozenset[str]:
        """All that may come next; nothing: the monitor does not know, and the text is free."""


class Breaker(Protocol):
    """Sees mistakes."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def closers(self, text: str) -> bytes:
        """ASCII characters that may make a mistake, within the token that follows `text`."""

    def breaks(self, text: str, ahead: str) -> bool:
        """Whether the last character of `text`, a closer, is a mistake.

        `ahead` is what the same token says after it.
        """


@runtime_checkable
class Foreseeing(Protocol):
    """A monitor or breaker that can begin to find out what it will be asked."""

    def foresee(self, text: str) -> None:
        """Hear of the text after each token; returns at once.

        It changes nothing of what the monitor says, only how soon.
        """
