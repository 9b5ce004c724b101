"""`rag index`: build, update, delete, compact, verify, list, info, alias."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError
from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "build and look after indexes"
REJECTED = 3


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag index ...`."""
    parser = subparsers.add_parser("index", help=HELP, description=HELP, parents=[common])
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def action(name: str, text: str, run: Any) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=text, parents=[common]
        )
        made.set_defaults(run=run)
        return made

    build = action("build", "make an index from documents; resumes an interrupted build", _build)
    build.add_argument("name", metavar="NAME")
    _inputs(build)
    build.add_argument("--retrievers", default="bm25,minilm", help="default: %(default)s")
    build.add_argument(
        "--stemmer", default="porter", help="default: %(default)s; none, german, ..."
    )
    build.add_argument("--stopwords", default="english", choices=["english", "none"])
    build.add_argument("--passage-words", type=int, default=300, metavar="N", help="0: never split")
    build.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="INDEX",
        help="take representations of the same documents by the same retriever from there",
    )
    build.add_argument(
        "--restart",
        action="store_true",
        help="forget an unfinished build and encode every document anew",
    )

    update = action("update", "add documents, replacing those with the same id", _update)
    update.add_argument("name", metavar="NAME")
    _inputs(update)

    delete = action("delete", "delete documents by id", _delete)
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("ids", nargs="+", metavar="ID")

    for name, text, run in (
        ("compact", "rewrite an index as one segment, without deleted documents", _compact),
        ("verify", "check every file of an index against its checksum", _verify),
        ("info", "facts about one index", _info),
    ):
        action(name, text, run).add_argument("name", metavar="NAME")
    action("list", "the indexes under the root", _list)
    alias = action("alias", "point a name at an index; --remove drops it", _alias)
    alias.add_argument("alias", metavar="ALIAS")
    alias.add_argument("target", metavar="NAME", nargs="?")
    alias.add_argument("--remove", action="store_true")


def _inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", nargs="+", type=Path, required=True, metavar="PATH")
    parser.add_argument(
        "--rejects", type=Path, metavar="FILE", help="where rejected documents are listed (JSONL)"
    )


def _build(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.analyzer import AnalyzerConfig
    from indexes.library import index_folder
    from indexes.passages import PassageConfig
    from rag.build import BuildRequest, build_index
    from rag.retrievers.retriever import parse_specs

    folder = index_folder(settings.root, args.name)
    request = BuildRequest(
        name=args.name,
        inputs=args.input,
        retrievers=parse_specs(args.retrievers),
        analyzer=AnalyzerConfig(stemmer=args.stemmer, stopwords=args.stopwords),
        passages=PassageConfig(max_words=args.passage_words),
        rejects=args.rejects or folder.parent / f"{folder.name}.rejects.jsonl",
        reuse=args.reuse,
        restart=args.restart,
    )
    report = build_index(request, settings, TerminalProgress())
    if wants_json(args):
        print_json(report)
    elif report.up_to_date:
        print(f"{report.name} is up to date: {report.n_documents} documents, v{report.version}")
    else:
        print(
            f"{report.name} v{report.version}: {report.n_documents} documents in "
            f"{report.n_passages} passages, {report.n_rejected} rejected; {report.spent_s:.0f} s, "
            f"{report.documents_per_s:.0f} documents/s, peak {report.peak_rss_mb:.0f} MB"
        )
    return _rejected(report.n_rejected, report.rejects)


def _update(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.library import index_folder
    from rag.update import update_index

    folder = index_folder(settings.root, args.name)
    rejects = args.rejects or folder.parent / f"{folder.name}.rejects.jsonl"
    report = update_index(args.name, args.input, rejects, settings, TerminalProgress())
    if wants_json(args):
        print_json(report)
    else:
        print(f"{report.name} v{report.version}: {report.n_documents} documents")
    return _rejected(report.n_rejected, report.rejects)


def _rejected(n_rejected: int, rejects: str) -> int:
    if not n_rejected:
        return 0
    TerminalProgress().note(f"{n_rejected} documents were rejected: see {rejects}")
    return REJECTED


def _delete(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.writer import IndexWriter

    with IndexWriter(_existing(args.name, settings)) as writer:
        manifest = writer.delete(args.ids)
    _say(args, {"name": manifest.name, "version": manifest.version, "deleted": len(args.ids)})
    return 0


def _compact(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.writer import IndexWriter

    with IndexWriter(_existing(args.name, settings)) as writer:
        manifest = writer.compact()
    _say(args, {"name": manifest.name, "version": manifest.version})
    return 0


def _verify(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.snapshot import Snapshot

    snapshot = Snapshot(_existing(args.name, settings), checksums=True)
    n_files = sum(len(segment.entry.files) for segment in snapshot.segments)
    snapshot.close()
    _say(args, {"name": args.name, "ok": True, "n_files": n_files})
    return 0


def _info(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.files import folder_bytes
    from indexes.manifest import read_manifest
    from rag.information import index_info

    folder = _existing(args.name, settings)
    facts: dict[str, Any] = _builtins(index_info(read_manifest(folder)))
    _say(args, {**facts, "bytes": folder_bytes(folder)})
    return 0


def _list(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.library import index_names, read_aliases
    from indexes.manifest import read_manifest

    aliases = read_aliases(settings.root)
    for name in index_names(settings.root):
        manifest = read_manifest(settings.root / name)
        row = {
            "name": name,
            "version": manifest.version,
            "n_documents": manifest.n_documents,
            "retrievers": [entry.name for entry in manifest.retrievers],
            "aliases": [alias for alias, target in aliases.items() if target == name],
        }
        if wants_json(args):
            print_json(row)
        else:
            retrievers = ",".join(entry.name for entry in manifest.retrievers)
            print(f"{name:24} v{manifest.version:<6} {manifest.n_documents:>10} {retrievers}")
    return 0


def _alias(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.library import set_alias

    if bool(args.target) == args.remove:
        raise UsageError("give an index NAME, or --remove")
    set_alias(settings.root, args.alias, None if args.remove else args.target)
    _say(args, {"alias": args.alias, "index": args.target})
    return 0


def _existing(name: str, settings: Settings) -> Path:
    from indexes.library import index_folder, resolve_alias
    from indexes.manifest import read_manifest

    folder = index_folder(settings.root, resolve_alias(settings.root, name))
    read_manifest(folder)
    return folder


def _builtins(value: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def _say(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    if wants_json(args):
        print_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        print(f"{key:{width}}  {value}")
