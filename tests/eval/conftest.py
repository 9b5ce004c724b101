"""Small data sets, an index root, a tiny generator, and where the shared data lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.batch_search import SearchPlan
from eval.corpus_index import Corpus, IndexPlan, ensure_index
from indexes.document import Document
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs
from rag.service import Service

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
ANIMALS = {
    "owl": "The owl hunts mice at night. Owls see well in the dark.",
    "heron": "The heron stands in the river and catches fish.",
    "fox": "The fox hunts mice and rabbits. The fox lives in a den.",
    "mole": "The mole digs tunnels and eats worms.",
    "otter": "The otter swims in the river, eats fish and sleeps in a den.",
}
QUESTIONS = {
    "q1": ("who hunts mice at night", {"owl": 2, "fox": 1}),
    "q2": ("river fish", {"heron": 1, "otter": 1}),
    "q3": ("who digs tunnels", {"mole": 1}),
    "q4": ("spaceship engines", {"owl": 1}),
}


@pytest.fixture
def shared() -> Callable[..., Path]:
    """The path of a shared file or folder; skips the test when it is absent."""

    def find(*parts: str) -> Path:
        path = SHARED.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"shared data absent: {'/'.join(parts)}")
        return path

    return find


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """A BEIR folder: five documents, four queries, one of which no document answers in words."""
    folder = tmp_path / "animals"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "title": "", "text": text} for key, text in ANIMALS.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        {"_id": key, "text": text, "metadata": {"answers": list(judged)}}
        for key, (text, judged) in QUESTIONS.items()
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n"
        + "".join(
            f"{key}\t{document}\t{gain}\n"
            for key, (_, judged) in QUESTIONS.items()
            for document, gain in judged.items()
        )
    )
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "indexes", cache=tmp_path / "cache", n_threads=1)


@pytest.fixture
def service(settings: Settings):
    """A service over an index `animals`, searched by BM25."""
    documents = [Document(key, text) for key, text in ANIMALS.items()]
    plan = IndexPlan(parse_specs("bm25"))
    ensure_index("animals", Corpus(lambda: iter(documents)), plan, settings, Silent())
    opened = Service(settings)
    yield opened
    opened.close()


@pytest.fixture
def plan() -> SearchPlan:
    return SearchPlan(limit=3)


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama over bytes: it speaks nonsense through the real pipeline."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-generator")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({ch: number for number, ch in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(
        [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>")
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=fast.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=fast.get_vocab_size() - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def answering(settings: Settings, tiny_generator: Path, service: Service):
    """The same index, answered from by the tiny generator."""
    from msgspec.structs import replace

    opened = Service(replace(settings, generator=str(tiny_generator)))
    yield opened
    opened.close()
