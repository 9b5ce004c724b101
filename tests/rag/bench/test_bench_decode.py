"""`rag bench decode` on a tiny model: prompts of every shape, engines that agree, rows."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "generate"))

from tiny_decoders import save_tiny_decoder

from indexes.errors import InvalidInput, MalformedInput, UsageError
from rag.bench.decoders import ours, transformers_generate
from rag.bench.prompts import read_prompts
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import Settings, load_settings
from rag.generate.chat_tokenizer import load_chat_tokenizer
from rag.generate.opening import open_generator

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{{ '<|im_start|>' }}"
)
RECORDS = {
    "llma": {"query": "Who?", "docs": ["Fleming did.", "It was 1928."]},
    "spec": {"category": "rag", "turns": ["Where? In Paris.", "And then?"]},
    "qmsum": {
        "meeting_transcripts": [{"speaker": "A", "content": "We meet at nine."}],
        "specific_query_list": [{"query": "When?"}],
    },
    "squality": {"document": "A story.", "questions": [{"question_text": "What is it?"}]},
    "plain": {"question": "Which?", "context": "This one."},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = save_tiny_decoder(tmp_path_factory.mktemp("tiny"), "llama")
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    paths = {}
    for name, record in RECORDS.items():
        paths[name] = root / f"{name}.jsonl.gz"
        paths[name].write_bytes(gzip.compress(json.dumps(record).encode() + b"\n"))
    corpus = root / "beir"
    corpus.mkdir()
    (corpus / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "The dodo is a bird."}')
    (corpus / "queries.jsonl").write_text('{"_id": "q", "text": "What is the dodo?"}')
    return paths | {"beir": corpus}


def run(settings: Settings, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common_flags())
    args = parser.parse_args(["bench", "decode", *arguments])
    return int(args.run(args, settings))


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    flags = {"cache": str(tmp_path), "generator": str(folder), "n_threads": 1, "root": tmp_path}
    return load_settings(flags, {})


def test_every_kind_of_prompt_holds_its_question_and_text(folder, data, settings):
    tokenizer = load_chat_tokenizer(folder)
    prompts = read_prompts(list(data.values()), 12, 590, tokenizer, settings)
    assert len(prompts) == 6
    texts = {prompt.source.split("/")[-1]: tokenizer.decode(prompt.token_ids) for prompt in prompts}
    for name, wanted in {
        "llma.jsonl.gz": ("Who?", "Fleming did.", "It was 1928."),
        "spec.jsonl.gz": ("Where? In Paris.",),
        "qmsum.jsonl.gz": ("When?", "We meet at nine."),
        "squality.jsonl.gz": ("What is it?", "A story."),
        "plain.jsonl.gz": ("Which?", "This one."),
        "beir": ("What is the dodo?", "The dodo is a bird."),
    }.items():
        assert all(part in texts[name] for part in wanted), name


@pytest.mark.slow
def test_rows_ratios_and_floor(data, settings, capsys):
    flags = ["--data", str(data["plain"]), str(data["llma"]), "--limit", "1", "--max-tokens", "9"]
    engines = "evident,evident-auto,evident-fp32,transformers,transformers-lookup"
    assert run(settings, *flags, "--max-prompt-tokens", "500", "--engines", engines, "--json") == 0
    *rows, floor = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_engine = {row["engine"]: row for row in rows}
    assert list(by_engine) == engines.split(",")
    assert by_engine["transformers"]["ratio_vs_generate"] == 1
    for row in rows:
        assert row["n_tokens"] <= 9
        ratio = row["tokens_per_s"] / by_engine["transformers"]["tokens_per_s"]
        assert row["ratio_vs_generate"] == pytest.approx(ratio, rel=0.01)
        assert row["ratio_vs_llamacpp"] is None
    assert floor["tokens_per_s"] == pytest.approx(
        floor["read_bytes_per_s"] / (floor["weight_bytes"] + floor["kv_bytes"]), rel=0.01
    )
    assert run(settings, *flags, "--max-prompt-tokens", "500") == 0
    assert "floor" in capsys.readouterr().out


def test_a_ratio_is_the_median_over_prompts():
    """One prompt at which the machine was busy changes no ratio, and one of one token none."""
    from rag.bench.decode import GENERATE, PLAIN, _rows
    from rag.bench.decoders import Decoded
    from rag.bench.prompts import BenchPrompt

    prompts = [BenchPrompt("a", [1, 2])] * 4
    ours = [Decoded(11, 1.0, 2.0)] * 3 + [Decoded(1, 1.0, 1.0)]
    theirs = [Decoded(11, 1.0, total) for total in (5.0, 6.0, 900.0, 3.0)]
    plain, generate = _rows(prompts, {PLAIN: ours, GENERATE: theirs})
    assert plain.ratio_vs_generate == 5
    assert plain.ratio_vs_generate_answer == pytest.approx((2.5 + 3) / 2, rel=0.2)
    assert generate.ratio_vs_generate == 1
    assert generate.ratio_vs_genai is None


def test_our_fp32_writes_what_transformers_writes(folder, settings):
    full = open_generator(str(folder), Settings(settings.root, settings.cache, backend="fp32"))
    prompt = load_chat_tokenizer(folder).encode("It was the best of times")
    wanted = transformers_generate(folder)(prompt, 24)
    for decoder in (
        ours(full, "none"),
        ours(full, "auto"),
        transformers_generate(folder, prompt_lookup_num_tokens=4),
        transformers_generate(folder, assistant=True),
    ):
        found = decoder(prompt, 24)
        assert found.token_ids == wanted.token_ids
        assert 0 < found.first_s <= found.total_s


def test_what_cannot_be_measured_says_so(data, settings, tmp_path):
    with pytest.raises(UsageError, match="unknown engines"):
        run(settings, "--data", str(data["plain"]), "--engines", "warp")
    with pytest.raises(UsageError, match=r"GGUF|not installed"):
        run(settings, "--data", str(data["plain"]), "--engines", "llama.cpp-q4_0")
    empty, broken = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl"
    empty.write_text('{"other": 1}\n')
    broken.write_text("{\n")
    with pytest.raises(InvalidInput, match="no question"):
        run(settings, "--data", str(empty))
    with pytest.raises(MalformedInput, match=r"broken\.jsonl:1"):
        run(settings, "--data", str(broken))
