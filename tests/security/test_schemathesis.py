"""The whole API under what schemathesis makes of its document: valid and invalid requests, with keys and without.

No answer may be a failure of the server's, and none may be another than the document says: status, content type, schema and
headers. A real server answers, over a copy of the house; every operation finds it as it was. TEST_EXAMPLES says how many
requests are drawn for an operation beyond those that are always made: every example, and every boundary of every parameter.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis.internal.conjecture import providers
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test

from service.services import Services
from store.jobs import logs, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from tests.security.conftest import OWNER, House, bearer, copy_database, rows_of
from tests.security.test_tenant_matrix import DOCUMENT, KEYED, OPERATIONS
from tests.support.gate import number
from tests.support.servers.databases import valkey_server
from tests.support.servers.processes import service_process

EXAMPLES = number("TEST_EXAMPLES", gate=8, whole=50)
API = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict(
        {
            "seed": 0,
            "request-timeout": 60,
            "generation": {"deterministic": True, "max-examples": EXAMPLES, "with-security-parameters": False},
            "checks": {
                # What fits the schema may still be refused for what it means: an unknown id, another state, other bytes.
                "positive_data_acceptance": {"enabled": False},
                # 404 for an id of another form, 412 for another version of tus, 413 for a size, 460 for a checksum.
                "negative_data_rejection": {"expected-statuses": ["4xx"]},
                "missing_required_header": {"expected-statuses": ["4xx"]},
            },
        }
    ),
)
FEW = (HypothesisTestMode.EXAMPLES, HypothesisTestMode.FUZZING)
# They succeed with bytes, or in a state, that nobody draws; tests of their own bring them there.
NEVER_DONE = {
    *("upload_model_file", "upload_dataset_file", "create_model_file_upload", "create_dataset_file_upload"),
    "redeliver_webhook_delivery",
}
WEIRD: tuple[dict[str, str], ...] = (
    {},
    {"X-Request-ID": "\xff\x7f" * 40, "Accept": "nonsense/;q=2,,"},
    {"X-Forwarded-For": "999.1.1.1, ::::", "X-Forwarded-Proto": "gopher", "Forwarded": "for=_x;;"},
    {"Cookie": "a=b;;;=c", "Content-Encoding": "gzip", "X-HTTP-Method-Override": "DELETE"},
    {"Range": "bytes=5-1,-,99999999999999999999-", "If-Range": '"', "If-None-Match": 'W/,"', "If-Match": "*"},
    {"Origin": "null", "Referer": "javascript:0", "Expect": "nothing", "Upgrade": "h2c"},
    {"Last-Event-ID": "\xb2", "Accept-Language": "\xe9" * 500},
)
_ID = re.compile(r"(?:mdl|dst|job|swp|upl|whk|key|dlv)_[a-z2-7]{26}")
_OF_WORK, _OF_WAITING = re.compile("/(checkpoints|events|logs|report)"), re.compile("/(cancel|pause|resume)$")
_WELL_FORMED = {"step": re.compile(r"[0-9]{1,4}"), "name": re.compile(r"[A-Za-z0-9_-]{1,60}\.[a-z]{2,20}")}


@dataclass
class Server:
    url: str
    settings: Settings
    before: Path
    ids: dict[str, tuple[str, ...]]
    """Of the owner, by the name of the path parameter; `model` and `dataset` are what jobs take."""
    tokens: dict[str, str]

    def restore(self) -> None:
        """Database and artifacts as they were; the server may hold connections to them."""
        folder = self.settings.data_dir
        copy_database(self.before, folder)
        shutil.copytree(self.before / "artifacts", folder / "artifacts", dirs_exist_ok=True)


@pytest.fixture(scope="module", autouse=True)
def _constants_of_no_module() -> Iterator[None]:
    """Hypothesis also draws constants that it reads in modules of the project: other ones with every module that is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providers, "_get_local_constants", providers.Constants)
        providers.CONSTANTS_CACHE.cache.clear()
        yield
    providers.CONSTANTS_CACHE.cache.clear()


@pytest.fixture(scope="module")
def server(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a job that has ended and one that waits, and so two sweeps."""
    root = tmp_path_factory.mktemp("fuzzed")
    folder = shutil.copytree(house.folder, root / "data")
    with valkey_server() as broker_url:
        # A check may take longer than a request on a busy machine: the answer is that it is being made.
        changed = {"broker_url": broker_url, "check_wait_seconds": 0, "max_webhooks": 10**6}
        settings = house.settings(folder).model_copy(update=changed | {"refused_keys_per_minute": 10**6})
        services = Services.of(settings)
        with services.database.write() as session:
            lease = Lease(house.ids["job_id"], 1)
            logs.append(session, lease, 0, "step 1\n" * 100, settings.max_log_bytes)
            transitions.succeed(session, lease)
        services.database.close()
        with service_process(settings, root / "log") as client:
            client.headers.update(bearer(house.tokens["own"]))
            body = client.get(f"/v1/jobs/{house.ids['job_id']}").json()["request"]
            waits = client.post("/v1/jobs", json=body).json()["id"]
            ended = house.ids["sweep_id"]
            client.post(f"/v1/sweeps/{ended}/cancel")
            swept = {"model": body["model"], "dataset": body["dataset"], "specs": [{"pruning": body["pruning"]}]}
            sweep_waits = client.post("/v1/sweeps", json=swept).json()["id"]
            ids = {
                name: tuple(dict.fromkeys((known, house.uploads.get(name, known)))) for name, known in house.ids.items()
            }
            shutil.copytree(folder / "artifacts", root / "before" / "artifacts")
            copy_database(folder, root / "before")
            ids |= {
                "job_id": (house.ids["job_id"], waits),
                "sweep_id": (ended, sweep_waits),
                "model": ids["model_id"][:1],
                "dataset": ids["dataset_id"][:1],
            }
            yield Server(str(client.base_url), settings, root / "before", ids, house.tokens)


@pytest.fixture
def restored(server: Server) -> Server:
    server.restore()
    EXISTING.update(server.ids)
    NAMED.clear()
    return server


EXISTING: dict[str, tuple[str, ...]] = {}
"""What well-formed parameters and references are mostly made to name, by the name of the parameter."""
NAMED: dict[str, dict[str, Any]] = {}
"""By the same names, what was drawn and what it was made to name: a request that is sent again is the same."""


def _existing(name: str, value: Any, among: str) -> Any:
    """Each in its turn, so that whatever is drawn all are named; after that now and then none."""
    known, drawn = EXISTING.get(name, ()), f"{value}{among}"
    if not known or not _WELL_FORMED.get(name, _ID).fullmatch(str(value)):
        return value
    named = NAMED.setdefault(name, {})
    turn = len(named)
    left = turn >= len(known) and hashlib.sha256(drawn.encode()).digest()[0] % 8 == 0
    return named.setdefault(drawn, value if left else known[turn % len(known)])


@API.hook("map_case")
def _about_what_exists(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    sent = f"{case.path_parameters}{case.body}"
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = _existing(name, value, sent)
    ended, waiting = EXISTING["job_id"]
    if case.path_parameters.get("job_id") in (ended, waiting):
        # Only the job that has ended has checkpoints and the like; and a stream of the other would not end (tests/integration
        # has such streams).
        if _OF_WORK.search(context.operation.path):
            case.path_parameters["job_id"] = ended
        elif _OF_WAITING.search(context.operation.path):
            case.path_parameters["job_id"] = waiting
    if case.path_parameters.get("sweep_id") in EXISTING["sweep_id"] and _OF_WAITING.search(context.operation.path):
        case.path_parameters["sweep_id"] = EXISTING["sweep_id"][1]
    if isinstance(case.body, dict):
        for name in {"model", "dataset"} & case.body.keys():
            part = case.body[name]
            if isinstance(part, dict) and "id" in part:
                case.body = case.body | {name: part | {"id": _existing(name, part["id"], sent)}}
    return case


@API.hook("filter_failure")
def _not_unknown_headers(
    _context: schemathesis.HookContext, failure: Any, _case: schemathesis.Case, _response: schemathesis.Response
) -> bool:
    """Headers that a server does not know it ignores (RFC 9110, 5.1)."""
    return "in header - object with unexpected properties" not in failure.message


@schemathesis.serializer("application/offset+octet-stream")
def _raw(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


Send = Callable[[schemathesis.Case], None]


def every_request(operation_id: str, send: Send, *modes: HypothesisTestMode) -> None:
    """The same every time, and nothing is learned from answers."""
    operation = API.find_operation_by_id(operation_id)
    settings = API.config.get_hypothesis_settings(operation=operation, phase="fuzzing")
    config = HypothesisTestConfig(project=API.config, modes=list(modes or HypothesisTestMode), settings=settings)
    create_test(operation=operation, test_func=send, config=config)()


def sender(server: Server, headers: dict[str, str], answers: Counter[int]) -> Send:
    """Sends a case with these headers, and some weird ones; counts the statuses of the answers."""
    number = count()

    def send(case: schemathesis.Case) -> None:
        weird = WEIRD[next(number) % len(WEIRD)]
        answer = case.call_and_validate(base_url=server.url, headers={**weird, **headers})
        assert "x-request-id" in answer.headers
        answers[answer.status_code] += 1

    return send


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_with_a_key_that_may_do_everything(restored: Server, operation_id: str) -> None:
    answers: Counter[int] = Counter()
    every_request(operation_id, sender(restored, bearer(restored.tokens["own"]), answers))
    assert operation_id in NEVER_DONE or any(200 <= status < 300 for status in answers), answers


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_without_a_key(restored: Server, operation_id: str) -> None:
    answers: Counter[int] = Counter()
    every_request(operation_id, sender(restored, {}, answers), *FEW)
    assert operation_id not in KEYED or set(answers) == {401}, answers


@pytest.mark.parametrize("operation_id", KEYED)
def test_with_a_key_of_another_tenant(restored: Server, operation_id: str) -> None:
    services = Services.of(restored.settings)
    before = _lasting(services)
    answers: Counter[int] = Counter()
    every_request(operation_id, sender(restored, bearer(restored.tokens["foreign"]), answers), *FEW)
    assert _lasting(services) == before
    services.database.close()
    if "{" in OPERATIONS[operation_id][1]:
        assert not any(status < 400 for status in answers), answers


def _lasting(services: Services) -> dict[str, list[dict[str, Any]]]:
    """The owner's rows, but for messages to workers that wait: whoever submits a job publishes everybody's."""
    return {table: rows for table, rows in rows_of(services, OWNER).items() if table != "outbox"}
