"""A model whose file was cut short: it is never run, its index says so, the others are served."""

import json
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.limits import Limits
from indexes.analyzer import AnalyzerConfig
from indexes.passages import PassageConfig
from rag.build import BuildRequest, build_index
from rag.cli.main import main
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs
from rag.service import Service

sys.path.insert(0, str(Path(__file__).parents[1] / "rag" / "retrievers"))

from toy_checkpoints import save_bert

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tiny_index, tmp_path):
    """A root with `tiny` (BM25) and `learned`, whose SPLADE model's weights are then cut short."""
    shutil.copytree(tiny_index.root, tmp_path / "indexes")
    settings = msgspec.structs.replace(tiny_index, root=tmp_path / "indexes")
    model = save_bert(tmp_path / "model")
    documents = tmp_path / "documents.jsonl"
    documents.write_text(json.dumps({"id": "radium", "text": "Marie Curie found radium."}) + "\n")
    build = BuildRequest(
        name="learned",
        inputs=[documents],
        retrievers=parse_specs(f"splade={model}"),
        analyzer=AnalyzerConfig(),
        passages=PassageConfig(),
        rejects=tmp_path / "rejects.jsonl",
    )
    build_index(build, settings, Silent())
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    return settings


def test_its_index_is_refused_and_the_others_are_served(settings, capsys):
    service = Service(settings)
    with TestClient(create_app(service, Limits()), raise_server_exceptions=False) as client:

        def search(index):
            return client.post("/v1/search", json={"index": index, "query": "radium"})

        assert [hit["id"] for hit in search("tiny").json()["hits"]] == ["radium"]
        response = search("learned")
        assert response.status_code in {409, 503}
        assert response.headers["content-type"] == "application/problem+json"
        assert str(settings.root) not in response.text
        assert client.get("/livez").status_code == 200
    service.close()
    assert main(["search", "learned", "radium", "--root", str(settings.root)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "model" in said
