"""`rag bench concurrency` and `rag bench identity` on a tiny model: rows that add up."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "generate"))

from tiny_decoders import save_tiny_decoder

from indexes.errors import InvalidInput, UsageError
from rag.bench.concurrency import with_room
from rag.bench.identity import BACKENDS, Check, first_difference
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import Settings, load_settings
from rag.models.resolver import resolve

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
CONTEXT = "The dodo was a bird. It could not fly. "


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("cache")
    folder = save_tiny_decoder(tmp_path_factory.mktemp("tiny"), "llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    flags = {"cache": str(root), "generator": str(folder), "n_threads": 1, "root": root}
    return load_settings(flags, {})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "questions.jsonl"
    rows = [{"question": f"Question {n}?", "context": CONTEXT * (n + 1)} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(settings: Settings, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common_flags())
    args = parser.parse_args(["bench", *arguments])
    return int(args.run(args, settings))


def test_all_streams_may_decode_together(settings):
    """There are slots for so many only: the rest would be fed one by one, and that be measured."""
    assert with_room(settings, (1, 40)).max_concurrency == 40
    assert with_room(settings, (1, 2)).max_concurrency == settings.max_concurrency


def test_streams_and_their_ratios(settings, data, capsys):
    flags = ["--data", str(data), "--streams", "1,3", "--drafters", "none,auto", "--limit", "3"]
    short = ["--max-tokens", "6", "--max-prompt-tokens", "400"]
    assert run(settings, "concurrency", *flags, *short, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["drafter"], row["n_streams"]) for row in rows] == [
        *(("none", 1), ("none", 3)),
        *(("auto", 1), ("auto", 3)),
    ]
    for first, row in ((rows[0], rows[1]), (rows[2], rows[3])):
        assert first["ratio"] == first["answer_ratio"] == 1
        assert row["ratio"] == pytest.approx(row["tokens_per_s"] / first["tokens_per_s"], rel=0.01)
        assert row["n_requests"] == 3
        assert 3 <= row["n_tokens"] == first["n_tokens"] <= 18
        assert 0 < row["first_token_ms"] <= row["last_first_token_ms"]
    assert run(settings, "concurrency", *flags, *short, "--decoding-only") == 0
    printed = capsys.readouterr().out
    assert "3 streams" in printed
    assert "reading" not in printed


def test_streams_that_cannot_be(settings, data):
    with pytest.raises(UsageError, match="int"):
        run(settings, "concurrency", "--data", str(data), "--streams", "many")
    with pytest.raises(UsageError, match="enum"):
        run(settings, "concurrency", "--data", str(data), "--drafters", "oracle")


@pytest.mark.slow
def test_texts_are_identical_and_checks_are_kept(settings, data, tmp_path, capsys):
    checks = tmp_path / "kept" / "checks.jsonl"
    flags = ["--data", str(data), "--checks", str(checks), "--limit", "2", "--max-tokens", "8"]
    few = ["--gammas", "0-2", "--max-prompt-tokens", "400"]
    assert run(settings, "identity", *flags, *few, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(BACKENDS) * (5 * 3 + 1)
    for row in rows:
        assert row["n_identical"] == row["n_prompts"] == 2
        assert row["first_difference"] is None
        assert row["drafted"] == 0 or row["gamma"] > 0
        if row["backend"] != "torch":
            assert row["max_difference"] == 0
    assert any(row["drafter"] == "rapid" and row["drafted"] for row in rows)
    lines = checks.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * len(rows)
    # A line that was cut short is made anew, the others are not.
    checks.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert run(settings, "identity", *flags, *few) == 0
    assert "2 of   2 identical" in capsys.readouterr().out
    again = [msgspec.json.decode(line, type=Check) for line in checks.read_bytes().splitlines()]
    assert len({check.key for check in again}) == len(again) == len(lines)


def test_a_text_that_differs_is_told(settings, data, tmp_path, capsys):
    checks = tmp_path / "checks.jsonl"
    model = resolve(settings.generator, settings.cache).sha256[:16]
    spoilt = [Check(model, "int4", "lookup", 1, n, 8, 3, n + 4) for n in range(2)]
    checks.write_bytes(b"".join(msgspec.json.encode(check) + b"\n" for check in spoilt))
    flags = ["--backends", "int4", "--drafters", "lookup", "--gammas", "1", "--limit", "2"]
    assert run(settings, "identity", "--data", str(data), "--checks", str(checks), *flags) == 1
    assert "0 of   2 identical" in (printed := capsys.readouterr().out)
    assert "prompt 0 differs at 4" in printed


@pytest.mark.parametrize("flags", [["--backends", "x"], ["--drafters", "none"], ["--gammas", "a"]])
def test_checks_that_cannot_be(settings, data, tmp_path, flags):
    with pytest.raises(UsageError):
        run(settings, "identity", "--data", str(data), "--checks", str(tmp_path / "c"), *flags)


def test_data_without_prompts(settings, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("{}\n")
    with pytest.raises(InvalidInput):
        run(settings, "identity", "--data", str(empty), "--checks", str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("found", "expected", "position"),
    [([1, 2], [1, 2], None), ([1, 3], [1, 2], 1), ([1], [1, 2], 1), ([1, 2, 3], [1, 2], 2)],
)
def test_where_texts_part(found, expected, position):
    assert first_difference(found, expected) == position
