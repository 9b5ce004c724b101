"""A tiny random encoder with a tokenizer that reads any script, and GeAR over it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from rag.gear.locator import Locator
from rag.gear.network import GearNetwork
from rag.gear.shape import GearShape
from rag.models.bert_layers import load_encoder

SPECIAL = ["[PAD]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!。鲸鱼是哺乳动物企鹅不会飞سمكةقطلا"
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def save_base(folder: Path, width: int = 16) -> Path:
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(20)
    model.save_pretrained(folder)
    words = {word: number for number, word in enumerate(VOCABULARY)}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(SPECIAL)
    made.post_processor = processors.BertProcessing(
        ("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"])
    )
    made.save(str(folder / "tokenizer.json"))
    return folder


def toy_shape(base: Path, **changes: object) -> GearShape:
    settings = {
        "base": str(base),
        "base_sha256": "",
        "n_shared": 2,
        "n_decoder_layers": 1,
        "decoder_inner": 16,
        "locate_layers": (2,),
        "max_tokens": 32,
        "max_question_tokens": 16,
    }
    return GearShape(**(settings | changes))  # type: ignore[arg-type]


def toy_network(base: Path, seed: int = 1, **changes: object) -> GearNetwork:
    torch.manual_seed(seed)
    network = GearNetwork(load_encoder(base), toy_shape(base, **changes))
    with torch.no_grad():
        for block in network.fusion.blocks:
            block.gate.fill_(0.7)
            block.query.weight.mul_(4)
    return network.requires_grad_(requires_grad=False).eval()


def toy_locator(base: Path, batch_tokens: int = 4096, **changes: object) -> Locator:
    return Locator(toy_network(base, **changes), base, batch_tokens=batch_tokens)
