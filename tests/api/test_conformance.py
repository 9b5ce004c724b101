"""Schemathesis against the live app: no 5xx, and no undocumented status, media type or shape.

Names of indexes are drawn at random, so most cases end in 404; each well-formed one is therefore
sent once more to an index that exists.
"""

import os
import shutil
import sys

import hypothesis
import msgspec
import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # not beside a server thread: 3.11 may fail
from by_heart import ByHeart
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from api.limits import Limits
from rag.config import Settings
from rag.jobs.desk import Desk

# Negative cases nest deeply: hypothesis warns of the size of the strategy's name.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Generating overly large repr:hypothesis.errors.HypothesisWarning"
)
PATIENCE_S = 120
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


class Idle(Desk):
    def tend(self):
        """Nobody builds what was ordered."""


@pytest.fixture(scope="module")
def api(few_documents, limits, live_server, tmp_path_factory):
    desk = Idle(Settings(root=tmp_path_factory.mktemp("jobs")))
    limits = msgspec.structs.replace(limits, max_pending_jobs=10)
    with live_server(few_documents(), limits, desk=desk) as live:
        yield schemathesis.openapi.from_url(f"{live.url}/schema/openapi.json")


@pytest.fixture(scope="module")
def real_api(tiny_index, with_model, live_server, tmp_path_factory):
    """The real service over a copy of a real index; only the weights are made up."""
    root = tmp_path_factory.mktemp("real") / "indexes"
    shutil.copytree(tiny_index.root, root)
    settings = msgspec.structs.replace(tiny_index, root=root)
    service = with_model(settings, ByHeart("Penicillin was discovered by Alexander Fleming."))
    desk = Idle(settings)
    with live_server(service, Limits(max_pending_jobs=10), desk=desk) as live:
        yield schemathesis.openapi.from_url(f"{live.url}/schema/openapi.json")
    service.close()


def check(api, checks, mode, seed, max_examples, index="few"):
    """Send cases to every operation; return how many were sent."""
    sent = 0
    for result in api.get_all_operations():
        cases = result.ok().as_strategy(generation_mode=mode)

        @hypothesis.seed(seed)
        @settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def send(case):
            nonlocal sent
            if isinstance(case.body, dict):
                # That a millisecond is not enough is as documented, but a 504 all the same.
                case.body.pop("timeout_ms", None)
            case.call_and_validate(checks=checks, timeout=PATIENCE_S)
            if "name" in case.path_parameters:
                case.path_parameters["name"] = index
            if isinstance(case.body, dict) and isinstance(case.body.get("index"), str):
                case.body["index"] = index
            case.call_and_validate(checks=checks, timeout=PATIENCE_S)
            sent += 2

        send()
    return sent


@pytest.mark.slow
def test_a_few_well_formed_cases_of_each_operation(api, checks):
    assert check(api, checks, GenerationMode.POSITIVE, seed=1, max_examples=5) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_many_cases_of_each_operation(api, checks, mode):
    assert check(api, checks, mode, seed=2, max_examples=40) >= 400


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_real_service(real_api, checks, mode):
    """`CASES=60` sends over 5,000 cases in the two modes together."""
    n_examples = int(os.environ.get("CASES", "4"))
    n_sent = check(real_api, checks, mode, seed=3, max_examples=n_examples, index="tiny")
    sys.stderr.write(f"{mode.value}: {n_sent} cases\n")
    assert n_sent >= 20 * n_examples


@pytest.mark.slow
def test_the_check_sees_a_server_error(few_documents, limits, live_server, checks):
    """The twin that must fail: the same cases against a service that breaks."""

    class Broken(few_documents):
        def search(self, request, *, request_id):
            raise ZeroDivisionError

    with live_server(Broken(), limits) as live:
        api = schemathesis.openapi.from_url(f"{live.url}/schema/openapi.json")
        with pytest.raises(FailureGroup, match="Server error"):
            check(api, checks, GenerationMode.POSITIVE, seed=1, max_examples=5)
