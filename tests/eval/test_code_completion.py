"""`rag eval code`: sites cut from installed packages, and both ways to complete them."""

from __future__ import annotations

import json

import msgspec
import pytest

from eval.code_completion import CodePlan, SiteAnswer, code_report, complete_sites
from eval.code_sites import MIN_LINES, PACKAGES, Site, cut_sites, dereferences, members
from indexes.errors import InvalidInput
from rag.cli.main import main
from rag.generate.completion import Program, program_at
from rag.generate.monitors.python.analyst import Analyst
from rag.progress import Silent

SOURCE = "\n" * MIN_LINES + 'é = "é.upper"; x = é.upper().lower\nx.y = f"{x.real}" # x.no\n'


@pytest.fixture(scope="module")
def analyst():
    with Analyst() as opened:
        yield opened


def test_dereferences_are_those_that_are_read():
    found = dereferences(SOURCE)
    line = MIN_LINES + 1
    assert {name for _, _, name in found} <= {"upper", "lower", "real"}
    assert found[:2] == [(line, 22, "upper"), (line, 30, "lower")]
    for number, column, name in found:
        assert program_at(SOURCE, number, column).before.endswith(".")
        assert SOURCE.split("\n")[number - 1][column - 1 :].startswith(name)


def test_a_site_too_near_the_beginning_is_none():
    assert dereferences("import os\nos.path\n") == []


@pytest.mark.slow
def test_members_of_a_program(analyst):
    assert "append" in members(Program("x = []\nx."), analyst)
    assert members(Program("def f(x):\n    x."), analyst) == frozenset()
    assert members(Program("x = 1."), analyst) == frozenset()


def untimed(site: Site) -> Site:
    assert site.known_ms > 0
    return msgspec.structs.replace(site, known_ms=0.0)


@pytest.mark.slow
def test_sites_of_installed_packages(analyst):
    cut = cut_sites(("packaging", "h11"), 12, 3, analyst, Silent())
    assert len(cut.sites) == 12
    assert cut.n_tried >= 12
    assert {site.package for site in cut.sites} == {"packaging", "h11"}
    assert len({site.id for site in cut.sites}) == 12
    again = cut_sites(("packaging", "h11"), 12, 3, analyst, Silent())
    assert [untimed(site) for site in again.sites] == [untimed(site) for site in cut.sites]
    for site in cut.sites:
        source = site.program.path.read_text()
        assert source.startswith(site.program.before + site.name)
        assert source.endswith(site.program.after)
        assert site.known
    # Static analysis knows nearly all of the names that real programs use.
    assert sum(site.name in site.known for site in cut.sites) >= 10


@pytest.mark.slow
def test_the_default_packages_have_sites_and_their_names_are_known(analyst):
    cut = cut_sites(PACKAGES, 48, 0, analyst, Silent())
    assert len(cut.sites) == 48
    assert len({site.package for site in cut.sites}) >= 10
    assert sum(site.name in site.known for site in cut.sites) >= 44


@pytest.mark.parametrize("package", ["no-such-package-here", "tqdm"])
def test_packages_that_cannot_be_measured(package, analyst):
    with pytest.raises(InvalidInput, match=package):
        cut_sites((package,), 5, 0, analyst, Silent())


def answer(number: int, *, monitored: bool, written: str, ms: float) -> SiteAnswer:
    return SiteAnswer(
        f"s{number}", monitored, "name", written, written in ("name", "other"),
        written == "name", 11, 2 * monitored, 150.0 if monitored else 100.0, ms,
        132.0 if monitored else 110.0, 176.0 if monitored else 110.0,
    )  # fmt: skip


def test_the_measures():
    known = frozenset({"name", "other"})
    sites = [Site(f"s{n}", f"p{n % 2}", Program("x."), "name", known, n) for n in range(4)]
    free = [answer(n, monitored=False, written="nothing", ms=0) for n in range(4)]
    held = [answer(n, monitored=True, written="name", ms=11) for n in range(4)]
    report = code_report(sites, [*free, *held])
    assert (report.n, report.n_packages, report.reachable) == (4, 2, 1)
    assert (report.valid, report.valid_monitored) == (0, 1)
    assert (report.match, report.match_monitored) == (0, 1)
    assert report.p == pytest.approx(2 / 16)
    assert (report.token_ms, report.cold_ms) == (10, 1.5)
    assert report.constrained_token_ms == pytest.approx(44 / 8)
    assert report.overhead == pytest.approx(0.6)
    assert report.decode_overhead == pytest.approx(0.5)
    assert report.processor_overhead == pytest.approx(0.2)


@pytest.mark.slow
def test_the_command(tiny_generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    out = tmp_path / "sites.jsonl"
    command = ["eval", "code", "--packages", "packaging", "--limit", "3", "--max-tokens", "24"]
    assert main([*command, "--prompt-tokens", "64", "--out", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    report = made["report"]
    assert (report["n"], report["n_packages"]) == (3, 1)
    assert made["n_tried"] >= 3
    # A random model writes no member by itself.
    assert report["valid"] == 0
    assert report["valid_monitored"] == 1
    assert report["constrained_token_ms"] > 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["monitored"] for row in rows] == [False, True] * 3
    assert main([*command, "--monitor", "dereference"]) == 0
    table = capsys.readouterr().out
    assert "valid identifier" in table
    assert "longer a token" in table


def test_nothing_to_measure(tiny_generator, analyst):
    with pytest.raises(InvalidInput):
        complete_sites(None, [], CodePlan(), analyst, Silent())


@pytest.mark.slow
def test_there_are_300_sites_in_10_packages():
    """Counted without asking static analysis: the default of the command can be met."""
    from eval.code_sites import SITES_PER_MODULE, modules

    counts = []
    for package in PACKAGES:
        sources = [path.read_text() for path in modules(package) if path.stat().st_size >= 2_000]
        counts.append(sum(min(SITES_PER_MODULE, len(dereferences(one))) for one in sources))
    assert sum(counts) > 600
    assert sum(count >= 10 for count in counts) >= 10


@pytest.mark.slow
def test_the_default_generator_writes_members_that_exist(analyst):
    """The real model: held, every identifier is a member; free, some are not."""
    import os
    from pathlib import Path

    from platformdirs import user_cache_path

    from indexes.errors import ModelError
    from rag.config import load_settings
    from rag.generate.opening import open_generator

    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    settings = load_settings({"cache": str(cache)}, {})
    try:
        model = open_generator(settings.generator, settings)
    except ModelError as error:
        pytest.skip(f"absent: {error}")
    cut = cut_sites(PACKAGES, 16, 1, analyst, Silent())
    plan = CodePlan(max_tokens=8, prompt_tokens=128)
    report = code_report(cut.sites, complete_sites(model, cut.sites, plan, analyst, Silent()))
    assert report.valid_monitored == 1
    assert report.valid < 1
    assert report.match_monitored >= report.match
