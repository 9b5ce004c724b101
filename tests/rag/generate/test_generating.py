"""`rag generate` and the stage behind it, on a tiny random model in a folder."""

from __future__ import annotations

import argparse
import json
import threading
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from indexes.errors import DeadlineExceeded, EvidentError, InvalidInput, UsageError
from rag.answer import Decode, DrafterName, VerifierName
from rag.cli import generate as command
from rag.cli.decode_flags import DRAFTERS, VERIFIERS
from rag.config import Settings
from rag.generate.drafting import DraftMemory
from rag.generate.torch_model import TorchModel, load_torch_model
from rag.generating import GenerateRequest, GenerateResponse, generate_text

CONTEXT = "A stone lay there. The dodo lived on Mauritius. " * 4


@pytest.fixture(scope="module")
def model(tiny_long_folder: Path) -> TorchModel:
    return load_torch_model(tiny_long_folder, name="tiny", n_threads=1)


@pytest.fixture
def settings(tiny_long_folder: Path, tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, cache=tmp_path, generator=str(tiny_long_folder), n_threads=1)


def run(settings: Settings, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true")
    command.add_parser(parser.add_subparsers(), common)
    args = parser.parse_args(["generate", *arguments])
    return int(args.run(args, settings))


@pytest.mark.slow
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_every_drafter_reports_what_it_did(model: TorchModel, drafter: DrafterName) -> None:
    decode = Decode(40, drafter=drafter, draft_tokens=4, verifier=None)
    if drafter == "rapid":
        decode = msgspec.structs.replace(decode, verifier="lossless")
    request = GenerateRequest("Where did the dodo live?", CONTEXT, decode=decode)
    plain = generate_text(model, msgspec.structs.replace(request, decode=Decode(40)))
    ours = generate_text(model, request)
    assert ours.text == plain.text
    report = ours.decode
    assert report.drafter == drafter
    assert report.accepted <= report.drafted
    if drafter == "none":
        assert (report.drafted, report.alpha, report.gamma) == (0, None, None)
    else:
        assert report.gamma is not None
        assert 0 <= report.gamma <= 4
    if drafter == "rapid":
        assert report.drafted > 0
        assert report.alpha == report.accepted / report.drafted
    assert ours.usage.completion_tokens == plain.usage.completion_tokens


def test_flags_and_schema_name_the_same_things() -> None:
    assert set(DRAFTERS) == set(DrafterName.__args__)
    assert set(VERIFIERS) == set(VerifierName.__args__)


def test_earlier_answers_teach(model: TorchModel) -> None:
    memory = DraftMemory()
    request = GenerateRequest("Hello", decode=Decode(40, drafter="suffix", draft_tokens=8))
    first = generate_text(model, request, memory=memory)
    again = generate_text(model, request, memory=memory)
    assert again.text == first.text
    assert again.decode.accepted > first.decode.accepted
    assert again.decode.accepted > 10


def test_raw_is_without_a_template(model: TorchModel) -> None:
    raw = generate_text(model, GenerateRequest("abc", raw=True, decode=Decode(1)))
    chat = generate_text(model, GenerateRequest("abc", decode=Decode(1)))
    assert (raw.usage.prompt_tokens, chat.usage.prompt_tokens > 3) == (3, True)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(" \n"),
        GenerateRequest("x", decode=Decode(drafter="rapid")),
        GenerateRequest("x" * 2000),
        GenerateRequest("x", decode=Decode(drafter="lookup", eta=2.0)),
    ],
    ids=["blank", "rapid without context", "too long", "contradiction"],
)
def test_requests_that_cannot_be_met(model: TorchModel, request_: GenerateRequest) -> None:
    with pytest.raises(InvalidInput):
        generate_text(model, request_)


def test_cancelling_and_the_deadline(model: TorchModel) -> None:
    cancel = threading.Event()
    seen: list[str] = []

    def stop(text: str) -> None:
        seen.append(text)
        cancel.set()

    request = GenerateRequest("abc", decode=Decode(200))
    ours = generate_text(model, request, cancel=cancel, on_text=stop)
    assert ours.decode.finish_reason == "cancelled"
    assert ours.text == "".join(seen)
    with pytest.raises(DeadlineExceeded):
        generate_text(model, GenerateRequest("abc", decode=Decode(900), timeout_ms=1))


def test_the_command_streams_and_sums_up(settings, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("abc"))
    assert run(settings, "--max-tokens", "12", "--decode", "auto") == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("\n")
    assert "tokens" in printed.err
    assert "auto: " in printed.err


def test_the_command_as_json(settings, capsys, tmp_path) -> None:
    context = tmp_path / "context.txt"
    context.write_text(CONTEXT)
    flags = ["--json", "--context", str(context), "--decode", "rapid", "--draft-tokens", "3"]
    assert run(settings, "Where?", "--max-tokens", "12", "--eta", "2", *flags) == 0
    response = msgspec.json.decode(capsys.readouterr().out, type=GenerateResponse)
    assert response.decode.drafter == "rapid"
    assert response.decode.drafted > 0
    assert run(settings, "Where?", "--max-tokens", "12", *flags[:3]) == 0
    assert json.loads(capsys.readouterr().out)["decode"]["drafter"] == "auto"


def test_another_model_drafts(settings, capsys, tmp_path, tiny_folder) -> None:
    context = tmp_path / "context.txt"
    context.write_text("One dodo.")
    flags = ["--decode", "rapid", "--draft-model", str(tiny_folder), "--context", str(context)]
    assert run(settings, "x", "--raw", "--max-tokens", "5", "--json", *flags) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["completion_tokens"] >= 1


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["x", "--draft-tokens", "11"], UsageError),
        (["x", "--draft-model", "y"], UsageError),
        (["x", "--context", "missing.txt"], UsageError),
        (["x", "--max-tokens", "0"], UsageError),
        (["x", "--decode", "auto", "--eta", "1"], EvidentError),
    ],
)
def test_flags_that_are_wrong(settings, flags, error) -> None:
    with pytest.raises(error):
        run(settings, *flags)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["cad:0.5", "adacad", "cfb:4"])
def test_a_faithful_text_reads_the_context_twice(model: TorchModel, rule: str) -> None:
    request = GenerateRequest("Where did the dodo live?", CONTEXT, decode=Decode(40, trace=True))
    plain = generate_text(model, request)
    assert (plain.decode.faithful, plain.decode.contrast_alpha) == ("off", None)
    texts = set()
    for drafter in ("none", "auto", "recycle"):
        decode = msgspec.structs.replace(request.decode, drafter=drafter, faithful=rule)
        ours = generate_text(model, msgspec.structs.replace(request, decode=decode))
        texts.add(ours.text)
        report = ours.decode
        assert report.faithful == rule.partition(":")[0]
        if rule.startswith("cfb"):
            assert report.contrast_alphas == []
        else:
            assert len(report.contrast_alphas) == ours.usage.completion_tokens
            assert min(report.contrast_alphas) > 0
    assert len(texts) == 1
    assert texts != {plain.text}


def test_contrast_with_alpha_zero_is_no_contrast(model: TorchModel) -> None:
    request = GenerateRequest("Where?", CONTEXT, decode=Decode(40, 1.0, seed=3))
    decode = Decode(40, 1.0, seed=3, faithful="cad:0")
    same = generate_text(model, msgspec.structs.replace(request, decode=decode))
    assert same.text == generate_text(model, request).text


def test_faithful_to_nothing(model: TorchModel) -> None:
    with pytest.raises(InvalidInput, match="context"):
        generate_text(model, GenerateRequest("Hello", decode=Decode(4, faithful="cad")))


def test_the_flags_of_a_faithful_text(settings: Settings, tmp_path: Path, capsys) -> None:
    context = tmp_path / "context.txt"
    context.write_text(CONTEXT)
    arguments = ["Where?", "--context", str(context), "--max-tokens", "9", "--json"]
    assert run(settings, *arguments, "--faithful", "adacad", "--trace") == 0
    told = json.loads(capsys.readouterr().out)["decode"]
    assert len(told["contrast_alphas"]) == 9
    with pytest.raises(EvidentError):
        run(settings, *arguments, "--faithful", "very")
