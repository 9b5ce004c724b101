"""Tiny random checkpoints in the layouts that people publish, and SPLADE as its paper writes it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from rag.models.resolver import ResolvedModel
from rag.retrievers.retriever import parse_spec
from rag.retrievers.splade import SpladeRetriever, splade_entry

WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud", "##s", ".", ","]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "[unused0]", "tiger", "oak"]
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def toy_tokenizer(*, causal: bool = False) -> Tokenizer:
    made = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    made.add_special_tokens(list(SPECIAL.values()))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A" if causal else "[CLS] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def save_tokenizer(folder: Path, *, causal: bool = False, limit: int = 64) -> None:
    names = {f"{name}_token": token for name, token in SPECIAL.items()}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=toy_tokenizer(causal=causal), model_max_length=limit, **names
    )
    fast.save_pretrained(folder)


def save_bert(folder: Path, seed: int = 0, **changes: int) -> Path:
    """A masked LM whose logits are of both signs and not small."""
    torch.manual_seed(seed)
    shape = {**SHAPE, **changes}
    config = BertConfig(vocab_size=len(VOCABULARY), intermediate_size=32, **shape)
    model = BertForMaskedLM(config)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.mul_(30)
        model.cls.predictions.bias.normal_()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_llama(folder: Path) -> Path:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), intermediate_size=32, tie_word_embeddings=True, **SHAPE
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(30)
    model.save_pretrained(folder)
    save_tokenizer(folder, causal=True)
    return folder


def resolved(folder: Path) -> ResolvedModel:
    return ResolvedModel(
        name=folder.name,
        kind="sparse",
        folder=folder,
        revision="r",
        sha256="s",
        licence="",
        source="folder",
    )


def open_splade(
    folder: Path, spec: str = "splade", *, batch_tokens: int = 4096, queries: Path | None = None
) -> SpladeRetriever:
    model, query_model = resolved(folder), None if queries is None else resolved(queries)
    return SpladeRetriever(
        splade_entry(parse_spec(spec), model, query_model),
        model,
        device="cpu",
        batch_tokens=batch_tokens,
        query_model=query_model,
    )


def passage_weights(retriever: SpladeRetriever, texts: list[str]) -> list[dict[str, float]]:
    rows = retriever.encode_passages(texts, lambda _: None).sparse
    assert rows is not None
    spans = [slice(*rows.indptr[n : n + 2]) for n in range(len(texts))]
    return [
        {
            rows.vocabulary[t]: float(w)
            for t, w in zip(rows.term_ids[s], rows.weights[s], strict=True)
        }
        for s in spans
    ]


def query_weights(retriever: SpladeRetriever, text: str) -> dict[str, float]:
    (query,) = retriever.encode_queries([text])
    assert query.vector.sparse is not None
    return dict(zip(query.vector.sparse.terms, query.vector.sparse.weights, strict=True))


def logits_of(folder: Path, ids: list[int]) -> torch.Tensor:
    """All logits of one text, by the model's own head: `[L, V]`."""
    kind = LlamaForCausalLM if "Llama" in (folder / "config.json").read_text() else BertForMaskedLM
    with torch.no_grad():
        logits: torch.Tensor = kind.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0]
    return logits


def named(weights: torch.Tensor) -> dict[str, float]:
    return {VOCABULARY[n]: float(w) for n, w in enumerate(weights) if w > 0}


def paper(folder: Path, text: str, pooling: str = "max") -> dict[str, float]:
    """max or sum over i of log(1 + relu(w_ij)), one text alone."""
    weights = torch.log1p(torch.relu(logits_of(folder, toy_tokenizer().encode(text).ids)))
    return named(weights.amax(0) if pooling == "max" else weights.sum(0))
