"""A server's start loads all models; one that cannot point does not keep it from serving."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexes.errors import EvidentError, ModelNotFound
from rag.config import Settings
from rag.models.resolver import resolve
from rag.service import Service


def warmed(root: Path, **settings: str) -> Service:
    service = Service(Settings(root=root, **settings))
    try:
        for name in ("all-minilm-l6-v2", service.settings.generator):
            resolve(name, service.settings.cache)
    except EvidentError:
        pytest.skip("the models are not in the cache: rag models pull --all-defaults")
    service.warm_up()
    assert service.ready()
    return service


@pytest.mark.slow
def test_what_points_at_sentences_is_open_after_a_start(tmp_path, monkeypatch, caplog):
    service = warmed(tmp_path)
    assert not caplog.text
    with monkeypatch.context() as patch:
        # Nothing is opened any more.
        patch.setattr("rag.gear.opening.locator_of", None)
        (found,) = service.locator().locate("who?", [("", "Ann came. It rained.")])
    assert len(found) == 2
    service.close()


@pytest.mark.slow
def test_without_it_the_rest_is_served(tmp_path, caplog):
    service = warmed(tmp_path, locator=str(tmp_path / "absent"))
    assert "cannot be pointed at" in caplog.text
    with pytest.raises(ModelNotFound):
        service.locator()
    service.close()
