"""Two organizations asking at once: what each gets is, to the byte, what it gets where it is alone in the table."""

from __future__ import annotations

import base64
import itertools
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from access.tenants import ALPHA, AS_OF, BEGAN, BRAVO, NEIGHBOURS, PINNED, Tenant
from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.database_servers import fresh_database
from usage_explore import AggregateQuery, EventQuery, Store, connect
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.app.cache import Source
from usage_explore.db import ddl
from usage_explore.errors import ScopeError, UsageExploreError

THREADS = 8
CSV = {"Accept": "text/csv"}
LIVE = PINNED | {"as_of": "2100-01-01T00:00:00Z"}

Parameters = dict[str, str]


class Ask(NamedTuple):
    """A request, and how it ends. `names`: it names the neighbour itself, so that the answer may, too."""

    path: str
    parameters: Parameters
    headers: Parameters = {}  # noqa: RUF012 - never changed
    status: int = 200
    names: bool = False


class Answer(NamedTuple):
    """What came, without what differs from request to request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@contextmanager
def a_store(server_url: str, template: str, *tenants: Tenant) -> Iterator[Store]:
    """A store on a table that holds these organizations' events."""
    with fresh_database(server_url, template=template) as url:
        with ddl.connect(url) as connection:
            generated_events.insert(connection, [row for tenant in tenants for row in tenant.rows()])
        with connect(url) as store:
            yield store


@pytest.fixture(scope="module")
def together(server_url: str, _template: str) -> Iterator[Store]:
    with a_store(server_url, _template, ALPHA, BRAVO) as store:
        yield store


@pytest.fixture(scope="module")
def alone(server_url: str, _template: str) -> Iterator[dict[Tenant, Store]]:
    """For each organization a store that holds nothing else."""
    with ExitStack() as stack:
        yield {tenant: stack.enter_context(a_store(server_url, _template, tenant)) for tenant in NEIGHBOURS}


def in_threads(work: Callable[[int], object], times: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(times)))


def clean(tenant: Tenant, text: bytes) -> bool:
    """Whether nothing in the text is the neighbour's, what is wrapped in base64 included."""
    wrapped = [base64.urlsafe_b64decode(each) for each in re.findall(rb"(?:[\w-]{4}){6,}", text, re.ASCII)]
    return not any(NEIGHBOURS[tenant].is_named_in(each) for each in (text, *wrapped))


# the HTTP door


def asks(tenant: Tenant, cursors: dict[Tenant, str]) -> list[Ask]:
    """Everything that one can ask, for oneself and for the neighbour."""
    neighbour = NEIGHBOURS[tenant]
    listing = {"as_of": AS_OF, "limit": "37"}
    questions: list[Parameters] = [
        {},
        {"group_by": "metric_key"},
        {"group_by": "dim:model", "metric": "sum_quantity", "top": "2", "timezone": "Europe/Berlin"},
        {"group_by": "customer_id", "bucket": "hour"},
        {"group_by": "wallet_currency", "bucket": "week"},
    ]
    own = [
        *(Ask(AGGREGATE, PINNED | question) for question in questions),
        *(Ask(AGGREGATE, PINNED | question, CSV) for question in questions[:3]),
        Ask(f"{AGGREGATE}.svg", PINNED | questions[2]),
        Ask(f"{AGGREGATE}.png", PINNED | questions[1]),
        Ask(EVENTS, listing),
        Ask(EVENTS, listing, CSV),
        Ask(EVENTS, listing | {"cursor": cursors[tenant]}),
        Ask(EXPORT, {"as_of": AS_OF}),
        Ask(EXPORT, {"as_of": AS_OF, "cursor": cursors[tenant]}),
        Ask(AGGREGATE, PINNED | {"organization_id": str(tenant.id)}),
        Ask(AGGREGATE, {"custmer_id": "x", "since": "y"}, status=400),
        Ask(EVENTS, {"limit": "1000"}, status=400),
    ]
    customer, metric = str(neighbour.uuid(0x1000)), f"{neighbour.name}-metric-0"
    theirs = [
        *(
            Ask(path, {"organization_id": str(neighbour.id)}, status=403)
            for path in (EVENTS, f"{EVENTS}/previous", EXPORT, AGGREGATE, f"{AGGREGATE}.png")
        ),
        Ask(EVENTS, listing | {"customer_id": customer}, names=True),
        Ask(EXPORT, {"as_of": AS_OF, "metric_key": metric}, names=True),
        Ask(AGGREGATE, PINNED | {"metric_key": metric}, names=True),
        Ask(AGGREGATE, PINNED | {"group_by": f"dim:{neighbour.name}-only"}, names=True),
        Ask(EVENTS, listing | {"cursor": cursors[neighbour]}, status=400),
        Ask(EXPORT, {"as_of": AS_OF, "cursor": cursors[neighbour]}, status=400),
    ]
    return own + theirs


class Asker:
    """One organization's client of a door, over connections that others use, too."""

    def __init__(self, client: httpx.Client, tenant: Tenant, ring: Keyring) -> None:
        self.client = client
        self.key = {"Authorization": f"Bearer {ring.create(tenant.id, 'test')}"}

    def __call__(self, ask: Ask, **headers: str) -> Answer:
        given = self.client.get(ask.path, params=ask.parameters, headers=self.key | ask.headers | headers)
        own = ("date", "server-timing", "x-request-id")
        kept = sorted((name, value) for name, value in given.headers.items() if name not in own)
        body = re.sub(rb'("request_id": ?)"[^"]*"', rb"\1", given.content)
        return Answer(given.status_code, tuple(kept), body)


class Arrivals:
    """Late events of both organizations, appended as long as the block runs."""

    def __init__(self, store: Store) -> None:
        self._url = store.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._append)
        self.appended: Counter[Tenant] = Counter()

    def __enter__(self) -> Arrivals:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        assert all(self.appended[tenant] for tenant in NEIGHBOURS), "nothing was appended"

    def _append(self) -> None:
        draw = random.Random(2)
        with ddl.connect(self._url) as connection:
            for batch in itertools.count():
                for tenant, many in ((ALPHA, 1), (BRAVO, 4)):
                    first = tenant.events + batch * many
                    fresh = [tenant.row(first + step, BEGAN, draw, datetime.now(UTC)) for step in range(many)]
                    self.appended[tenant] += many  # before it is committed: at most as many can be counted
                    generated_events.insert(connection, fresh)
                if self._ending.wait(0.05):
                    return


def test_the_neighbour_changes_no_byte_of_any_answer(
    together: Store, alone: dict[Tenant, Store], tmp_path: Path
) -> None:
    expected: dict[Tenant, list[tuple[Ask, Answer]]] = {}
    ring = Keyring(tmp_path / "keys.json")
    own_ring = {tenant: Keyring(tmp_path / f"{tenant.name}.json") for tenant in NEIGHBOURS}
    first = EventQuery(as_of=AS_OF, limit=37)
    cursors = {tenant: store.events(first).cursor or "" for tenant, store in alone.items()}
    for tenant, store in alone.items():
        with asking(store, access=Access(own_ring[tenant])) as client:
            ask_alone = Asker(client, tenant, own_ring[tenant])
            expected[tenant] = [(ask, ask_alone(ask)) for ask in asks(tenant, cursors)]
    for tenant, pairs in expected.items():
        assert all(answer.status == ask.status for ask, answer in pairs)
        assert all(ask.names or clean(tenant, repr(answer).encode()) for ask, answer in pairs)
    plan = [(tenant, place) for tenant in NEIGHBOURS for place in range(len(expected[ALPHA]))] * 2
    random.Random(1).shuffle(plan)

    with asking(together, access=Access(ring)) as client, Arrivals(together) as arrivals:
        askers = {tenant: Asker(client, tenant, ring) for tenant in NEIGHBOURS}

        def ask_one(number: int) -> None:
            tenant, place = plan[number]
            ask, answer = expected[tenant][place]
            theirs = dict(expected[NEIGHBOURS[tenant]][place][1].headers).get("etag")
            mine = dict(answer.headers).get("etag")
            assert askers[tenant](ask) == answer
            if mine and theirs and not ask.names:
                assert mine != theirs
                assert askers[tenant](ask, **{"If-None-Match": theirs}) == answer
                unchanged = askers[tenant](ask, **{"If-None-Match": mine})
                assert (unchanged.status, unchanged.body) == (304, b"")
            if number % 5 == 0:
                live = askers[tenant](Ask(AGGREGATE, LIVE | {"group_by": "metric_key"}))
                assert live.status == 200
                assert clean(tenant, live.body)

        in_threads(ask_one, len(plan))
        for tenant in NEIGHBOURS:
            seen = client.get(AGGREGATE, params=LIVE, headers=askers[tenant].key)
            total = seen.json()["series"][0]["total"]
            assert tenant.events < total <= tenant.events + arrivals.appended[tenant]


# the store, and what the app's sessions share


def looks(store: Store, neighbour: Tenant, folder: Path) -> dict[str, Any]:
    """Everything that a store tells."""
    known = EventQuery(as_of=AS_OF)
    first = store.events(EventQuery(as_of=AS_OF, limit=50))
    second = first.next()
    assert second is not None
    back = second.previous()
    assert back is not None
    counted = store.aggregate(AggregateQuery(**PINNED, group_by="dim:model", top=3, metric="sum_quantity"))
    file = store.export(known, folder / f"events-{threading.get_ident()}.csv", progress=False).path
    return {
        "first": first.to_dict(),
        "second": second.to_dict(),
        "back": back.to_dict(),
        "aggregate": counted.to_dict(),
        "behind": store.events(counted.events_at(counted.series[0], counted.edges[3])).to_dict(),
        "count": store.count(known),
        "metrics": store.metric_keys(known),
        "dimensions": store.dimension_keys(known),
        "models": store.dimension_values("model", known),
        "customers": store.customers(known),
        "export": file.read_bytes(),
        "sql": store.sql(AggregateQuery(**PINNED)),
        "organizations": store.organizations(),
        "refused": refusals(store, neighbour),
    }


def refusals(store: Store, neighbour: Tenant) -> list[str]:
    """How the store refuses what is the neighbour's."""
    claims: list[Callable[[], object]] = [
        lambda: store.scoped(neighbour.id),
        lambda: store.events(EventQuery(organization_id=neighbour.id)),
        lambda: store.aggregate(AggregateQuery(organization_id=neighbour.id)),
        lambda: store.metric_keys(EventQuery(organization_id=neighbour.id)),
        lambda: store.sql(EventQuery(organization_id=neighbour.id)),
    ]
    return [refusal(claim) for claim in claims]


def refusal(claim: Callable[[], object]) -> str:
    with pytest.raises(UsageExploreError) as refused:
        claim()
    assert isinstance(refused.value, ScopeError)
    return str(refused.value)


def test_one_pool_serves_both_and_mixes_nothing(together: Store, alone: dict[Tenant, Store], tmp_path: Path) -> None:
    expected = {tenant: looks(store, NEIGHBOURS[tenant], tmp_path) for tenant, store in alone.items()}
    shared = {tenant: together.restricted([tenant.id]) for tenant in NEIGHBOURS}
    for tenant, found in expected.items():
        assert clean(tenant, repr(found | {"refused": None}).encode())

    def look(number: int) -> None:
        tenant = (ALPHA, BRAVO)[number % 2]
        assert looks(shared[tenant], NEIGHBOURS[tenant], tmp_path) == expected[tenant]

    in_threads(look, 16)


def remembered(source: Source, draw: random.Random) -> dict[str, Any]:
    """What the app's sessions remember together, looked up in any order."""
    known = EventQuery(as_of=AS_OF)
    question = AggregateQuery(**PINNED, group_by="metric_key")
    looks: dict[str, Callable[[], Any]] = {
        "aggregate": lambda: source.aggregate(question).to_dict(),
        "comparison": lambda: repr(source.comparison(source.aggregate(question))),
        "page": lambda: source.page(known).to_dict(),
        "count": lambda: source.count(known),
        "sql": lambda: source.sql(known),
        "extent": source.extent,
        "dimensions": source.dimension_keys,
        "models": lambda: source.values("dim:model", known),
        "customers": lambda: source.values("customer_id", known),
    }
    names = draw.sample(list(looks), len(looks))
    found = {name: looks[name]() for name in names}
    return {name: found[name] for name in looks}


def test_what_sessions_share_is_kept_apart(together: Store, alone: dict[Tenant, Store]) -> None:
    now = together.now().replace(second=0, microsecond=0)
    shared = {tenant: Source(together.scoped(tenant.id), now) for tenant in NEIGHBOURS}
    first: dict[Tenant, dict[str, Any]] = {}

    def look(number: int) -> None:
        tenant = (ALPHA, BRAVO)[number % 2]
        found = remembered(shared[tenant], random.Random(number))
        assert clean(tenant, repr(found).encode())
        assert found == first.setdefault(tenant, found)

    in_threads(look, 48)
    for tenant, store in alone.items():
        assert first[tenant]["aggregate"] == store.aggregate(AggregateQuery(**PINNED, group_by="metric_key")).to_dict()
        assert first[tenant]["page"] == store.events(EventQuery(as_of=AS_OF)).to_dict()
        assert first[tenant]["customers"] == tuple(store.customers(EventQuery(as_of=AS_OF)))
        assert first[tenant]["count"] == tenant.events
