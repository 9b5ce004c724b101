"""How much a text is held to its evidence, as a request says it: `off`, `cad:0.5`, `adacad`, `cfb`.

* `cad[:ALPHA]`: context-aware decoding (Shi et al. 2024, 2305.14739). 0.5 and
  more is for evidence that contradicts what the model remembers; summaries lose overlap by it.
* `adacad[:floor=X][:cap=X]`: its alpha is chosen at each token (Wang et al. 2025, AdaCAD).
* `cad:0.15:spare`, `adacad:spare`: not where the prompt without evidence expects a word of the
  question most. A summary repeats its question; that is no memory to be held down, and where the
  whole text is contrasted it begins with the evidence's own wording instead.
* `cfb[:BONUS]`: a bonus for the tokens of the evidence, with no second branch (static CFB,
  2604.22335): cheap, and weak where evidence and memory conflict.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from indexes.errors import InvalidInput

DEFAULT_ALPHA = 0.5
DEFAULT_BONUS = 5.0
"""Delta of the paper's static variant, in logits."""

MAX_ALPHA = 10.0
MAX_BONUS = 50.0
SPARE = ":spare"

_NUMBER = r"(?:\d{1,2}(?:\.\d{1,6})?|\.\d{1,6})"
PATTERN = (
    rf"^(?:off|(?:cad(?::{_NUMBER})?|adacad(?::floor={_NUMBER})?(?::cap={_NUMBER})?)(?::spare)?"
    rf"|cfb(?::{_NUMBER})?)$"
)

FaithfulRule = Literal["off", "cad", "adacad", "cfb"]


class Faithful(msgspec.Struct, frozen=True):
    """`alpha` is of cad, `floor` and `cap` bound that of adacad, `bonus` is of cfb in logits.

    `spare` is whether there is no contrast where the question's words are expected.
    """

    rule: FaithfulRule = "off"
    alpha: float = DEFAULT_ALPHA
    floor: float = 0.0
    cap: float = MAX_ALPHA
    bonus: float = DEFAULT_BONUS
    spare: bool = False

    @property
    def needs_null(self) -> bool:
        """Whether the model is asked a second time, without the evidence."""
        return self.rule in ("cad", "adacad")


def parse_faithful(text: str) -> Faithful:
    """The rule that `text` spells. Raises `InvalidInput`."""
    if not re.fullmatch(PATTERN, text):
        raise InvalidInput(
            f"{text!r} is none of off, cad[:ALPHA], adacad[:floor=X][:cap=X] (with :spare), "
            "cfb[:BONUS]",
            "/decode/faithful",
        )
    name, *options = text.removesuffix(SPARE).split(":")
    spare = text.endswith(SPARE)
    match name:
        case "cad":
            alpha = _within(options[0] if options else DEFAULT_ALPHA, MAX_ALPHA)
            return Faithful("cad", alpha=alpha, spare=spare)
        case "adacad":
            bounds = {key: _within(value, MAX_ALPHA) for key, value in _pairs(options)}
            found = Faithful("adacad", **bounds, spare=spare)
            if found.floor > found.cap:
                raise InvalidInput("adacad: the floor is above the cap", "/decode/faithful")
            return found
        case "cfb":
            return Faithful("cfb", bonus=_within(options[0] if options else DEFAULT_BONUS))
    return Faithful()


def _pairs(options: list[str]) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (option.partition("=") for option in options)]


def _within(value: str | float, most: float = MAX_BONUS) -> float:
    if float(value) > most:
        raise InvalidInput(f"{value} is above {most:g}", "/decode/faithful")
    return float(value)
