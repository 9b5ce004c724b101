"""A model from the public hub or its mirror, for people who can reach one."""

from __future__ import annotations

import re
from pathlib import Path

from indexes.errors import ModelError
from rag.models.catalogue import catalogue

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
"""`organisation/name`."""

# Weights as safetensors and the small text files around them: no pickle, no code is ever fetched.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*"]
_UNWANTED = ["onnx/*", "openvino/*", "original/*"]


def fetch_from_hub(
    hub_id: str, cache: Path, *, local_only: bool, endpoint: str | None = None
) -> Path:
    """The repository's folder on this machine, downloaded where it is not; its name is the commit.

    With `local_only` nothing is asked of the network: what an earlier call brought is found.
    `endpoint` is the hub's address, by default the one huggingface_hub is configured with. Raises
    `ModelError` naming what the catalogue has instead.
    """
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                cache_dir=cache / "hub",
                allow_patterns=_WANTED,
                ignore_patterns=_UNWANTED,
                endpoint=endpoint,
                local_files_only=local_only,
            )
        )
    except (
        *(HfHubHTTPError, HFValidationError, LocalEntryNotFoundError),
        *(httpx.HTTPError, OSError, ValueError),
    ) as error:
        raise ModelError(
            f"cannot get {hub_id} from the hub ({type(error).__name__}); {_alternatives(hub_id)}"
        ) from error


def _alternatives(hub_id: str) -> str:
    same = [entry.name for entry in catalogue() if entry.hub.lower() == hub_id.lower()]
    if same:
        return f"the same model is in the catalogue: `rag models pull {same[0]}`"
    names = ", ".join(entry.name for entry in catalogue() if entry.kind != "corpus")
    return f"the catalogue has {names}, or give a local folder"
