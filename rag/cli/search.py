"""`rag search`: ranked evidence for a query."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError
from rag.cli.output import print_json, wants_json
from rag.cli.paint import painted_spans, shade

if TYPE_CHECKING:
    from indexes.filters import Filter
    from rag.config import Settings
    from rag.search import Fusion, Hit, RetrieverChoice

HELP = "search an index"
SNIPPET_CHARS = 300
SHOWN_EXPANSION = 8
SHOWN_TERMS = 12


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag search`."""
    parser = subparsers.add_parser("search", help=HELP, description=HELP, parents=[common])
    add_search_flags(parser, limit=10)
    parser.add_argument("--offset", type=int, default=0, metavar="N")
    parser.add_argument("--explain", action="store_true", help="show matched terms and weights")
    parser.set_defaults(run=_run)


def add_search_flags(parser: argparse.ArgumentParser, *, limit: int) -> None:
    """What `search` and `answer` have in common."""
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("query", metavar="QUERY", help="- reads it from stdin")
    parser.add_argument(
        "--retrievers", metavar="LIST", help="NAME[:limit=N][:weight=W],...; default: all"
    )
    parser.add_argument("--fusion", metavar="METHOD", help="rrf[:k=60], weighted or from_zero")
    parser.add_argument(
        "--filter", metavar="JSON", help='{"must": [{"field": "year", "match": 1999}]}'
    )
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--timeout-ms", type=int, metavar="MS")


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.search import SearchRequest
    from rag.service import Service

    request = SearchRequest(
        index=args.name,
        query=query_text(args),
        limit=args.limit,
        offset=args.offset,
        retrievers=choices(args.retrievers),
        fusion=fusion(args.fusion),
        filter=parsed_filter(args.filter),
        explain=args.explain,
        timeout_ms=args.timeout_ms,
    )
    service = Service(settings)
    try:
        response = service.search(checked(request))
    finally:
        service.close()
    if wants_json(args):
        print_json(response)
        return 0
    for hit in response.hits:
        print(render_hit(hit))
    for warning in response.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{len(response.hits)} hits, {response.timings_ms['total']:.0f} ms", file=sys.stderr)
    return 0


def query_text(args: argparse.Namespace) -> str:
    """The query, from the arguments or from stdin."""
    return sys.stdin.read() if args.query == "-" else str(args.query)


def checked(request: Any) -> Any:
    """The request held to the bounds of its own schema, as the REST service does."""
    import msgspec

    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error


def choices(text: str | None) -> list[RetrieverChoice]:
    """`bm25:weight=2,minilm` → retriever choices."""
    from rag.search import RetrieverChoice

    found = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, settings = _settings_of(part)
        found.append(_convert({"name": name, **settings}, RetrieverChoice, "--retrievers"))
    return found


def fusion(text: str | None) -> Fusion:
    """`rrf:k=10` → fusion."""
    from rag.search import Fusion

    if not text:
        return Fusion()
    method, settings = _settings_of(text)
    made: Fusion = _convert({"method": method, **settings}, Fusion, "--fusion")
    return made


def parsed_filter(text: str | None) -> Filter | None:
    """JSON → filter."""
    import msgspec

    from indexes.filters import Filter

    if not text:
        return None
    try:
        return msgspec.json.decode(text.encode(), type=Filter)
    except msgspec.DecodeError as error:
        raise UsageError(f"--filter: {error}") from error


def _settings_of(text: str) -> tuple[str, dict[str, str]]:
    name, *settings = text.strip().split(":")
    pairs = [setting.partition("=") for setting in settings]
    return name, {key: value for key, _, value in pairs}


def _convert(values: dict[str, str], kind: Any, flag: str) -> Any:
    import msgspec

    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{flag}: {error}") from error


def render_hit(hit: Hit) -> str:
    """A hit for a person: rank, score, title, the text's beginning with highlights."""
    stages = ", ".join(f"{name} #{s.rank} {s.score:.3f}" for name, s in hit.scores.items())
    spans = [(h.start, h.end) for h in hit.highlights if h.field == "text"]
    title = shade(hit.title or hit.id, "bold")
    snippet = painted_spans(hit.text[:SNIPPET_CHARS], spans)
    more = "…" if len(hit.text) > SNIPPET_CHARS else ""
    lines = [
        f"{hit.rank:3}. {hit.score:.4f}  {title}  [{hit.id}]  ({stages})",
        f"     {snippet}{more}",
    ]
    if hit.matched_terms:
        for name in dict.fromkeys(term.retriever for term in hit.matched_terms):
            own = [term for term in hit.matched_terms if term.retriever == name]
            terms = "  ".join(f"{t.term} {t.product:.2f}" for t in own[:SHOWN_TERMS])
            lines.append(f"     {shade(f'{name}: {terms}', 'dim')}")
    added = [one for one in hit.expansion if one.matched][:SHOWN_EXPANSION]
    if added:
        words = "  ".join(f"{one.term} ← {one.source or 'the whole'}" for one in added)
        lines.append(f"     {shade(f'expansion: {words}', 'dim')}")
    return "\n".join(lines)
