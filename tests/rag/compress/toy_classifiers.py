"""Tiny random token classifiers in the two published layouts, with tokenizers made from a text."""

from __future__ import annotations

import re
import string
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import (
    BertConfig,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

from rag.compress.token_classifier import TokenClassifier
from rag.models.resolver import ResolvedModel

PROSE = (
    "The committee met on 14 March 1994 in Geneva. Dr. Keller reported that 35.5 percent of the "
    "samples, taken near the river, held no trace of lead; the others did. Nobody objected! Was "
    "the state-of-the-art method (described in Fig. 2) used? It wasn't. However, the river's "
    "water level rose by 3 metres, and the laboratories were closed. Marie Curie discovered "
    "radium. Penicillin, an antibiotic, kills bacteria: it was found by Alexander Fleming."
)
CHARACTERS = [*string.ascii_letters, *string.digits, *string.punctuation]
SHORT_WORDS = sorted({word for word in re.findall(r"\w+", PROSE) if len(word) <= 5})
ENDINGS = ["er", "ed", "s", "ing", "ies", "oratories", "ent", "icillin"]
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
XLMR_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _spread(model: torch.nn.Module) -> None:
    """Weights large enough for probabilities all over (0, 1)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(25 if name.startswith("classifier") else 5)


def save_bert(folder: Path, *, lower: bool = False, positions: int = 512) -> Path:
    torch.manual_seed(5)
    marked = [f"##{piece}" for piece in (*CHARACTERS, *ENDINGS)]
    pieces = [*BERT_SPECIAL, *CHARACTERS, *SHORT_WORDS, *marked]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.add_special_tokens(BERT_SPECIAL)
    made.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ids = {token: made.token_to_id(token) for token in BERT_SPECIAL}
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    config = BertConfig(
        vocab_size=made.get_vocab_size(),
        intermediate_size=32,
        max_position_embeddings=positions,
        num_labels=2,
        **SHAPE,
    )
    return _save(folder, made, BertForTokenClassification(config), "[{}]", "BertTokenizer")


def save_xlm_roberta(folder: Path) -> Path:
    torch.manual_seed(6)
    begun = [f"▁{word}" for word in SHORT_WORDS]
    pieces = dict.fromkeys([*XLMR_SPECIAL, "▁", *CHARACTERS, *ENDINGS, *begun])
    scores = [(piece, -8.0 / len(piece)) for piece in pieces]
    made = Tokenizer(models.Unigram(scores, unk_id=3))
    made.add_special_tokens(XLMR_SPECIAL)
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    config = XLMRobertaConfig(
        vocab_size=made.get_vocab_size(),
        intermediate_size=32,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        num_labels=2,
        **SHAPE,
    )
    model = XLMRobertaForTokenClassification(config)
    return _save(folder, made, model, "<{}>", "XLMRobertaTokenizer")


def _save(folder: Path, made: Tokenizer, model: torch.nn.Module, spelled: str, kind: str) -> Path:
    _spread(model)
    model.save_pretrained(folder)
    bert = spelled == "[{}]"
    names = {
        "pad_token": "[PAD]" if bert else "<pad>",
        "unk_token": "[UNK]" if bert else "<unk>",
        "cls_token": "[CLS]" if bert else "<s>",
        "sep_token": "[SEP]" if bert else "</s>",
        "mask_token": "[MASK]" if bert else "<mask>",
    }
    fast = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names)
    fast.save_pretrained(folder)
    return folder


def resolved(folder: Path) -> ResolvedModel:
    return ResolvedModel(folder.name, "dense", folder, "r", "s", "", "folder")


def classifier(folder: Path, *, batch_tokens: int = 4096) -> TokenClassifier:
    return TokenClassifier(
        resolved(folder), cache=folder.parent, device="cpu", batch_tokens=batch_tokens
    )
