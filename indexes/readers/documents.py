"""Documents of any number of files, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from indexes.readers.intake import Intake, Read, ReaderConfig
from indexes.readers.jsonl import read_jsonl
from indexes.readers.parquet import read_parquet
from indexes.readers.pdf import PdfParser, read_pdf
from indexes.readers.sources import Skipped, Source, list_sources
from indexes.readers.table import read_csv, read_tsv
from indexes.readers.text import read_html, read_markdown, read_text
from indexes.rejects import Rejects

Reader = Callable[[Source, Intake], Iterator[Read]]

_READERS: Final[dict[str, Reader]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
}


def read_documents(
    paths: Sequence[Path],
    rejects: Rejects,
    *,
    config: ReaderConfig | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Read]:
    """Every document of the inputs, lazily, in a fixed order; what is unusable goes to `rejects`.

    A path is a file (`.jsonl`, `.ndjson`, `.csv` and `.tsv`, each also `.gz`; `.parquet`; `.md`,
    `.txt`, `.html`, `.pdf`), a BEIR folder (its corpus is read) or any other folder (all such files
    below it). Records carry their own id; a page's id is its path below the folder. Duplicate ids
    are not looked for here. `on_bytes` is told of bytes consumed on disk, decompressed or not; in
    the end they add up to `total_bytes(paths)`.

    Raises `UsageError`, at once, for a path that is missing or of no known format.
    """
    sources, skipped = list_sources(paths)
    return _read_all(sources, skipped, Intake(config or ReaderConfig(), rejects, on_bytes), rejects)


def _read_all(
    sources: Sequence[Source], skipped: Sequence[Skipped], intake: Intake, rejects: Rejects
) -> Iterator[Read]:
    for entry in skipped:
        rejects.add(str(entry.path), None, None, entry.reason)
    with ExitStack() as stack:
        pdf = stack.enter_context(PdfParser(intake.config.pdf_timeout_s))
        for source in sources:
            intake.begin(source)
            if source.suffix == ".pdf":
                yield from read_pdf(source, intake, pdf)
            else:
                yield from _READERS[source.suffix](source, intake)
            intake.finish()
