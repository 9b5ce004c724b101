"""SIGKILL at the steps of a commit: what opens afterwards is the old index or the new, whole."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commit_victim import NEW, OLD, change
from library import BM25, build, upsert

from indexes.document import Document
from indexes.snapshot import Snapshot

VICTIM = Path(__file__).with_name("commit_victim.py")
CHANGES = ("build", "upsert", "delete", "compact")


def content(folder: Path) -> dict[str, str]:
    snapshot = Snapshot(folder, checksums=True)
    try:
        return {key: snapshot.document(key).text for key in snapshot.live_ids()}
    finally:
        snapshot.close()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "index"
    build(folder, OLD, [BM25])
    upsert(folder, [Document("d5", "replaced once")])
    return folder


def run_victim(folder: Path, name: str, step: int, when: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(VICTIM), str(folder), name, str(step), when]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Expected:
    """What an index holds before and after each change, and how many steps the change takes."""

    def __init__(self, old: Path, scratch: Path) -> None:
        self.old = content(old)
        self.new: dict[str, dict[str, str]] = {}
        self.steps: dict[str, int] = {}
        for name in CHANGES:
            folder = shutil.copytree(old, scratch / name)
            self.steps[name] = int(run_victim(folder, name, 0, "before").stdout)
            self.new[name] = content(folder)


@pytest.fixture(scope="module")
def expected(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return Expected(old, tmp_path_factory.mktemp("expected"))


def strike(old: Path, expected: Expected, scratch: Path, name: str, rng: random.Random) -> None:
    """Kill one change at a random step, open what it left, and let the next writer carry on."""
    folder = shutil.copytree(old, scratch / "index")
    step, when = rng.randint(1, expected.steps[name]), rng.choice(["before", "after"])
    ended = run_victim(folder, name, step, when)
    assert ended.returncode == -9, f"{name} {when} {step}/{expected.steps[name]}: {ended}"
    found = content(folder)
    assert found in (expected.old, expected.new[name]), f"{name} killed {when} step {step}"
    if name != "delete" or found == expected.old:
        change(folder, name)
        assert content(folder) == expected.new[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_killed_anywhere_the_index_is_old_or_new(old, expected, tmp_path, name):
    assert expected.old != expected.new[name] or name == "compact"
    strike(old, expected, tmp_path, name, random.Random(f"quick {name}"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_seeds(old, expected, tmp_path):
    for seed in range(50):
        rng = random.Random(seed)
        scratch = tmp_path / str(seed)
        strike(old, expected, scratch, rng.choice(CHANGES), rng)
        shutil.rmtree(scratch)


def test_everything_the_manifest_names_was_synced_before_it(old, tmp_path, monkeypatch):
    """Power loss, unlike SIGKILL, drops what was not synced: the order of calls must be right."""
    import os

    folder = shutil.copytree(old, tmp_path / "index")
    synced: list[str] = []
    renames: list[tuple[str, int]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real_fsync(descriptor)

    def replace(source, target, **kwargs):
        renames.append((str(target), len(synced)))
        real_replace(source, target, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    change(folder, "upsert")
    monkeypatch.undo()
    ((target, before),) = [rename for rename in renames if rename[0].endswith("manifest.json")]
    safe = set(synced[:before])
    snapshot = Snapshot(folder)
    new = snapshot.segments[-1].entry
    tombstones = [s.entry.tombstones for s in snapshot.segments if s.entry.tombstones]
    for name in new.files:
        assert str(folder / "segments" / new.id / name) in safe
    assert str(folder / "segments" / new.id) in safe
    assert str(folder / "segments") in safe
    assert any(str(folder / name) in safe for name in tombstones)
    assert str(folder) in synced[before:], "the rename itself must be synced after it"
    assert {document.id for document in NEW}.isdisjoint(snapshot.live_ids())
    snapshot.close()
    assert Path(target) == folder / "manifest.json"
