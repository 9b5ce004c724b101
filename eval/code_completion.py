"""What monitors do for code: the identifier after a point, with them and without.

Static analysis is warm: it knows the standard library, and it was asked for the site's members just
before, by a question of its own.
Greedy and without drafts, so that times compare monitors and nothing else. The processor's time is
that of all threads of this process and of the one for static analysis, what it was asked ahead for
nothing included; it says more than a clock where others are at work too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from statistics import mean, median

import msgspec
import numpy as np

from eval.code_sites import Site, members
from eval.significance import fisher_randomisation
from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.completion import Completion, complete
from rag.generate.drafting import DraftMemory
from rag.generate.language_model import LanguageModel
from rag.generate.monitors.python.analyst import Analyst
from rag.generate.monitors.python.program import PYTHON_MONITORS
from rag.generate.prefix_cache import PrefixCache
from rag.progress import Progress

PREFIX_BYTES = 1 << 30
"""One prompt."""

_WORD = re.compile(r"\w*")


class CodePlan(msgspec.Struct, frozen=True):
    """What to measure."""

    monitors: Sequence[str] = PYTHON_MONITORS
    max_tokens: int = 24
    prompt_tokens: int = 512


class SiteAnswer(msgspec.Struct, frozen=True):
    """One site written on. `decode_ms` is the time after the first token, of all other ones.

    `generate_ms` is that of the whole text, whose prompt had been read, and `processor_ms` the
    processor's for it. `monitors_ms` is what monitors took, their waits included, most of it while
    the model computed.
    """

    id: str
    monitored: bool
    name: str
    written: str
    is_valid: bool
    is_match: bool
    n_tokens: int
    n_masked: int
    decode_ms: float
    monitors_ms: float
    processor_ms: float
    generate_ms: float


class CodeReport(msgspec.Struct, frozen=True):
    """With and without monitors, over the same sites.

    `valid`: the identifier is a member that static analysis knows, or the beginning of one where
    the tokens ran out; `match`: it is the one that stood there; `reachable`: that one is known, so
    this is the most that `match` can be with monitors. `p` is of Fisher's randomisation test of the
    matches. `token_ms` is without monitors, `constrained_token_ms` what monitors take for each
    token that they bind, beside the model or before it can go on.

    `overhead` is by the clock: how much longer a token takes with monitors than without, over whole
    texts, so with all waits and all that monitors slow down beside them; `decode_overhead` is that
    after the first token, for which a text begins with a question. `processor_overhead` is how much
    more of the processor a token takes. `cold_ms` is the median over sites of the first question to
    static analysis about a program, which is in none of the times before.
    """

    n: int
    n_packages: int
    reachable: float
    valid: float
    valid_monitored: float
    match: float
    match_monitored: float
    p: float
    token_ms: float
    constrained_token_ms: float
    overhead: float
    decode_overhead: float
    processor_overhead: float
    cold_ms: float


def complete_sites(
    model: LanguageModel,
    sites: Sequence[Site],
    plan: CodePlan,
    analyst: Analyst,
    progress: Progress,
) -> list[SiteAnswer]:
    """Every site twice: free, then monitored. Raises as `rag.generate.completion.complete`."""
    if not sites or not plan.monitors or plan.max_tokens < 2:
        raise InvalidInput("one site and one monitor or more, and two tokens or more")
    progress.note("warming static analysis")
    analyst.warm()
    progress.start("completing", 2 * len(sites), "text")
    answers = []
    for site in sites:
        # Its prompt is read once, for both.
        memory = DraftMemory(prefixes=PrefixCache(model, PREFIX_BYTES))
        first = msgspec.structs.replace(plan, max_tokens=1)
        _complete(model, site, first, memory, analyst, monitored=False)
        # The library lets go of files that nobody has asked for in ten minutes.
        members(site.program, analyst)
        for monitored in (False, True):
            answers.append(_complete(model, site, plan, memory, analyst, monitored=monitored))
            progress.advance(1)
    progress.finish()
    return answers


def code_report(sites: Sequence[Site], answers: Sequence[SiteAnswer]) -> CodeReport:
    """The measures of them."""
    free = [one for one in answers if not one.monitored]
    held = [one for one in answers if one.monitored]
    gains = np.array([a.is_match - b.is_match for a, b in zip(held, free, strict=True)], np.float64)
    monitors_ms = sum(one.monitors_ms for one in held)
    return CodeReport(
        n=len(sites),
        n_packages=len({site.package for site in sites}),
        reachable=mean(site.name in site.known for site in sites),
        valid=mean(one.is_valid for one in free),
        valid_monitored=mean(one.is_valid for one in held),
        match=mean(one.is_match for one in free),
        match_monitored=mean(one.is_match for one in held),
        p=fisher_randomisation(gains),
        token_ms=_decode_token_ms(free),
        constrained_token_ms=_ratio(monitors_ms, sum(one.n_masked for one in held)),
        overhead=_ratio(_generate_ms(held), _generate_ms(free)) - 1,
        decode_overhead=_ratio(_decode_token_ms(held), _decode_token_ms(free)) - 1,
        processor_overhead=_ratio(_processor_ms(held), _processor_ms(free)) - 1,
        cold_ms=median(site.known_ms for site in sites),
    )


def _complete(
    model: LanguageModel,
    site: Site,
    plan: CodePlan,
    memory: DraftMemory,
    analyst: Analyst,
    *,
    monitored: bool,
) -> SiteAnswer:
    began = time.process_time()
    analysed_ms = analyst.processor_ms
    made = complete(
        model,
        site.program,
        Decode(plan.max_tokens, drafter="none"),
        monitors=plan.monitors if monitored else (),
        prompt_tokens=plan.prompt_tokens,
        analyst=analyst,
        memory=memory,
    )
    processor_ms = (time.process_time() - began) * 1000
    # What was asked ahead, and nobody waits for, is answered before this.
    analyst.open().names("")
    processor_ms += analyst.processor_ms - analysed_ms
    found = _WORD.match(made.text)
    written = found[0] if found else ""
    return SiteAnswer(
        id=site.id,
        monitored=monitored,
        name=site.name,
        written=written,
        is_valid=written in site.known or _is_begun(made, written, site.known),
        is_match=written == site.name,
        n_tokens=made.usage.completion_tokens,
        n_masked=made.decode.masked,
        decode_ms=_decode_ms(made),
        monitors_ms=made.timings_ms["monitors"],
        processor_ms=processor_ms,
        generate_ms=made.timings_ms["generate"],
    )


def _is_begun(made: Completion, written: str, known: frozenset[str]) -> bool:
    """Whether the tokens ran out within a member's name."""
    was_cut = written == made.text != "" and made.decode.finish_reason == "length"
    return was_cut and any(name.startswith(written) for name in known)


def _decode_ms(made: Completion) -> float:
    return made.timings_ms["generate"] - (made.decode.first_token_ms or 0.0)


def _decode_token_ms(answers: Sequence[SiteAnswer]) -> float:
    """Of one token after the first."""
    return _ratio(sum(one.decode_ms for one in answers), sum(one.n_tokens - 1 for one in answers))


def _generate_ms(answers: Sequence[SiteAnswer]) -> float:
    """Of one token."""
    return _ratio(sum(one.generate_ms for one in answers), sum(one.n_tokens for one in answers))


def _processor_ms(answers: Sequence[SiteAnswer]) -> float:
    """Of one token."""
    return _ratio(sum(one.processor_ms for one in answers), sum(one.n_tokens for one in answers))


def _ratio(one: float, other: float) -> float:
    return one / other if other else 0.0
