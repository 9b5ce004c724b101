"""Tiny classifiers, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_classifiers import classifier, save_bert, save_xlm_roberta

from rag.compress.token_classifier import TokenClassifier


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The name is what llmlingua looks for."""
    return save_bert(tmp_path_factory.mktemp("toy") / "bert-base-multilingual-cased")


@pytest.fixture(scope="session")
def xlm_roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_xlm_roberta(tmp_path_factory.mktemp("toy") / "xlm-roberta-large")


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> TokenClassifier:
    return classifier(bert_folder)


@pytest.fixture(scope="session")
def xlm_roberta(xlm_roberta_folder: Path) -> TokenClassifier:
    return classifier(xlm_roberta_folder)
