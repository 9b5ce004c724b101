"""A service that shortens evidence in the ways of `eval.compressors`, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from eval.ask import AnswerPlan
from eval.compressors import open_compressors
from rag.compress.compressor import Compressor
from rag.config import Settings
from rag.service import Service


class CompressingService(Service):
    """A service whose compressor is the one last chosen; it is not for several threads."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._by_way: dict[str, Compressor] = {}

    def prepare(self, plans: Mapping[str, AnswerPlan], index: str) -> None:
        """Open what the plans name. Raises `UsageError` where a token classifier is missing."""

        def documents() -> list[str]:
            snapshot = self.snapshot(index)
            return [snapshot.document(key).text for key in snapshot.live_ids()]

        how = {way: plan.compress_by for way, plan in plans.items() if plan.compress is not None}
        opened = open_compressors(self.settings, dict.fromkeys(how.values()), documents)
        self._by_way = {way: opened[name] for way, name in how.items()}

    def choose(self, way: str) -> None:
        """Shorten as the plan `way` does from now on."""
        self._compressor = self._by_way.get(way)


def compressing_service(
    settings: Settings, plans: Mapping[str, AnswerPlan], index: str
) -> CompressingService:
    """The service, prepared. Raises as `CompressingService.prepare`."""
    service = CompressingService(settings)
    service.prepare(plans, index)
    return service
