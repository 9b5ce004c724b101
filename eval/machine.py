"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What explains a latency: processor, usable cores, memory, system and Python."""

    cpu: str
    n_cores: int
    memory_bytes: int
    system: str
    python: str


def describe_machine() -> Machine:
    """Describe the machine that runs this. `memory_bytes` is 0 where the system does not tell."""
    return Machine(
        cpu=_cpu_name(),
        n_cores=_usable_cores(),
        memory_bytes=_memory_bytes(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
    )


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    names = os.sysconf_names
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
