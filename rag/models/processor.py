"""What this machine's processor can do, as far as the choice of a graph depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.models.decoder_graph import Precision

BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni")
"""Instructions that sum products of bytes in 32 bits. What older x86 processors have instead sums
pairs in 16, where products of 8-bit codes overflow."""


def multiplies_bytes() -> bool:
    """Whether the int8 graph computes what it says here, and fast."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BYTE_PRODUCTS)


def fastest_precision() -> Precision:
    """The precision of the default backend on this machine."""
    return "int8" if multiplies_bytes() else "int4"
