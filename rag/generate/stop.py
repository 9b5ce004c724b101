"""Text out of tokens as it may be shown: whole characters only, never part of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a byte-level tokenizer decodes an unfinished character to."""


class TextStream:
    """Decodes tokens one by one into text that later tokens cannot change."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        # ids[:_settled] have been given out; decoding restarts a little earlier, at _anchor,
        # because some tokenizers drop the space before the first token they are given.
        self._anchor = 0
        self._settled = 0

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token_id)
        known, text = self._known_and_text()
        if len(text) <= len(known) or text.endswith(REPLACEMENT):
            return ""
        self._anchor, self._settled = self._settled, len(self._ids)
        return text[len(known) :]

    def finish(self) -> str:
        """What was held back, without the beginning of a character that never came to its end."""
        known, text = self._known_and_text()
        self._anchor = self._settled = len(self._ids)
        return text[len(known) :].rstrip(REPLACEMENT)

    def _known_and_text(self) -> tuple[str, str]:
        known = self._decode(self._ids[self._anchor : self._settled])
        return known, self._decode(self._ids[self._anchor :])


class StopStrings:
    """Cuts a text before the first stop string to be complete, whatever pieces it comes in."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take the next piece; return what may be shown now. After a stop that is nothing."""
        if self.stopped:
            return ""
        held = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return held[: min(ends)[1]]
        keep = self._could_begin(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def finish(self) -> str:
        """What was held back in case it began a stop string, now that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _could_begin(self, text: str) -> int:
        """Length of the longest suffix of `text` that is a proper prefix of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
