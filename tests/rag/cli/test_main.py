"""The command line as a script sees it: exit codes, JSON, what goes to stdout and to stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rag.cli.main import main

HEAVY = ("torch", "transformers", "sentence_transformers", "numpy", "duckdb", "faiss", "litestar",
         "pyarrow", "scipy", "matplotlib", "numba", "onnx", "onnxruntime")  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAG_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("RAG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "a.jsonl"
    rows = [{"id": f"d{n}", "text": f"stone number {n}", "year": 2000 + n} for n in range(5)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["index", "build", "i", "--input", str(source), "--retrievers", "bm25"]) == 0
    return tmp_path


def out(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_help_of_every_command_imports_nothing_heavy():
    code = (
        "import sys; from rag.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(', '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (
        *("answer", "bench", "compress", "config", "demo", "encode", "eval", "generate", "index"),
        *("models", "search", "serve"),
    ):
        assert f"\n    {command} " in done.stdout


def test_search_as_json(root, capsys):
    capsys.readouterr()
    assert main(["search", "i", "stone 3", "--json", "--limit", "2", "--explain"]) == 0
    (found,) = out(capsys)
    assert found["hits"][0]["id"] == "d3"
    assert {term["term"] for term in found["hits"][0]["matched_terms"]} == {"stone", "3"}
    text, mark = found["hits"][0]["text"], found["hits"][0]["highlights"][0]
    assert text[mark["start"] : mark["end"]] == "stone"
    assert set(found["timings_ms"]) >= {"encode", "search.bm25", "fetch", "total"}


def test_search_for_a_person(root, capsys):
    capsys.readouterr()
    assert main(["search", "i", "stone"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("«stone»") == 5
    assert "5 hits" in printed.err


def test_filters_fusion_and_retrievers_from_flags(root, capsys):
    capsys.readouterr()
    chosen = json.dumps({"must": [{"field": "year", "range": {"gte": 2003}}]})
    flags = ["--filter", chosen, "--fusion", "rrf:k=5", "--retrievers", "bm25:limit=50:weight=2"]
    assert main(["search", "i", "stone", "--json", *flags]) == 0
    (found,) = out(capsys)
    assert sorted(hit["id"] for hit in found["hits"]) == ["d3", "d4"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["search", "absent", "x"], 1, "no index 'absent'"),
        (["search", "../i", "x"], 2, "--"),
        (["search", "i", "x", "--limit", "0"], 2, ">= 1"),
        (["search", "i", "x", "--filter", "{"], 2, "--filter"),
        (["search", "i", "x", "--retrievers", "nope"], 2, "no retriever 'nope'"),
        (["search", "i", "x", "--fusion", "sum"], 2, "--fusion"),
        (["index", "delete", "i", "nobody"], 1, "no document 'nobody'"),
        (["index", "build", "i", "--input", "missing.jsonl", "--retrievers", "bm25"], 2, "missing"),
        (["index", "build", "I!", "--input", "."], 2, "no index name"),
        (["index", "build", "i", "--input", ".", "--retrievers", "bm25:k9=1"], 2, "k9"),
        (["answer", "i", "stone 3"], 1, "rag models pull"),
    ],
)
def test_errors_are_one_sentence_and_a_code(root, capsys, arguments, code, said):
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    if said != "--":
        assert said in printed.err


def test_rejected_documents_exit_3(root, capsys, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "x", "text": "cloud"}\n{"id": \n')
    capsys.readouterr()
    assert main(["index", "update", "i", "--input", str(bad), "--json"]) == 3
    (report,) = out(capsys)
    assert report["n_rejected"] == 1
    rejected = json.loads(Path(str(report["rejects"])).read_text())
    assert rejected["line"] == 2


def test_the_life_of_an_index(root, capsys):
    capsys.readouterr()
    assert main(["index", "delete", "i", "d1", "d2"]) == 0
    assert main(["index", "compact", "i"]) == 0
    assert main(["index", "alias", "current", "i"]) == 0
    assert main(["index", "verify", "current"]) == 0
    capsys.readouterr()
    assert main(["index", "info", "current", "--json"]) == 0
    (info,) = out(capsys)
    assert (info["n_documents"], info["version"], info["n_segments"]) == (3, 3, 1)
    assert main(["index", "list", "--json"]) == 0
    (listed,) = out(capsys)
    assert (listed["name"], listed["aliases"]) == ("i", ["current"])
    assert main(["search", "current", "stone", "--json"]) == 0
    assert len(out(capsys)[0]["hits"]) == 3
    damaged = next((root / "root" / "i" / "segments").rglob("bm25.weights.npy"))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert main(["index", "verify", "i"]) == 1
    assert "bm25.weights.npy" in capsys.readouterr().err


def test_flags_are_taken_before_and_after_the_command(root, capsys, tmp_path):
    capsys.readouterr()
    assert main(["--root", str(tmp_path / "elsewhere"), "index", "list", "--json"]) == 0
    assert out(capsys) == []
    assert main(["index", "list", "--json", "--root", str(tmp_path / "root")]) == 0
    assert len(out(capsys)) == 1
    assert main(["config", "show", "--json", "--root", "/r"]) == 0
    assert out(capsys)[0]["root"] == "/r"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback(root):
    command = f"{sys.executable} -m rag.cli.main search i stone --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
