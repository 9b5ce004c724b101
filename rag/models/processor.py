"""What this machine's processor can do, as far as the choice of a computation depends on it."""

from __future__ import annotations

BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni")
"""Instructions that sum products of bytes in 32 bits. What older x86 processors have instead sums
pairs in 16, where products of 8-bit codes overflow."""


def multiplies_bytes() -> bool:
    """Whether torch's products of bytes are exact here, and fast."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BYTE_PRODUCTS)
