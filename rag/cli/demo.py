"""`rag demo`: models, a real corpus, an index, three questions answered with cited evidence."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from rag.cli.output import TerminalProgress, print_json, wants_json
from rag.cli.paint import shade

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "see it work: models, 10,000 Wikipedia summaries, three cited answers"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag demo`."""
    parser = subparsers.add_parser("demo", help=HELP, description=HELP, parents=[common])
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    started = time.monotonic()
    progress = TerminalProgress()
    _prepare(settings, progress)
    from rag.answer import AnswerRequest
    from rag.cli.answer import render_answer
    from rag.demo import INDEX, QUESTIONS
    from rag.service import Service

    progress.note("3/3 Answering: the model is loaded once, then every question is timed by stage")
    service = Service(settings)
    try:
        service.warm_up()
        for question in QUESTIONS:
            response = service.answer(AnswerRequest(index=INDEX, query=question))
            if wants_json(args):
                print_json(response)
            else:
                print(f"\n{shade('Q: ' + question, 'bold')}\n\nA: {render_answer(response)}")
    finally:
        service.close()
    if not wants_json(args):
        print(_next_commands(time.monotonic() - started))
    return 0


def _prepare(settings: Settings, progress: TerminalProgress) -> None:
    """Models and corpus into the cache, the index into the root; what is there is kept."""
    from indexes.analyzer import AnalyzerConfig
    from indexes.passages import PassageConfig
    from rag.build import BuildRequest, build_index
    from rag.demo import INDEX, RETRIEVERS, pull_demo
    from rag.retrievers.retriever import parse_specs

    progress.note(f"1/3 Models and corpus, kept in {settings.cache}")
    documents = pull_demo(settings.cache, progress)
    progress.note(f"2/3 Index {INDEX!r} over the summaries, kept in {settings.root}")
    request = BuildRequest(
        name=INDEX,
        inputs=[documents],
        retrievers=parse_specs(RETRIEVERS),
        analyzer=AnalyzerConfig(),
        passages=PassageConfig(),
        rejects=settings.root / f"{INDEX}.rejects.jsonl",
    )
    report = build_index(request, settings, progress)
    state = "is up to date" if report.up_to_date else f"v{report.version} is committed"
    progress.note(f"    {report.n_documents} documents, {report.n_passages} passages: {state}")


def _next_commands(spent_s: float) -> str:
    return f"""
Done in {spent_s:.0f} s. The summaries are from Wikipedia, CC BY-SA 4.0. Try next:

    rag search demo "extinct flightless bird" --explain
    rag answer demo "Who wrote The Origin of Species?"
    rag serve            and then
    curl -s localhost:8080/v1/answer -H 'Content-Type: application/json' \\
         -d '{{"index": "demo", "query": "What is a black hole?"}}'
    rag index build mine --input YOUR_FOLDER
"""
