"""The watch over components, without servers."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from huleedu_service_libs.console import HealthSection, Tone
from huleedu_service_libs.health import (
    ComponentState,
    Damping,
    DrainConfig,
    Finding,
    HealthConfig,
    Impact,
    Level,
    Probe,
    ServiceHealth,
    breakers_probe,
    consumer_probe,
    dedupe_store_probe,
    relay_probe,
)
from huleedu_service_libs.health.answers import HEALTH_JSON, answer
from huleedu_service_libs.health.probes.consumer import ConsumerLimits, judge_consumer
from huleedu_service_libs.idempotency_v2.store_facts import StoreStatus
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus, StuckPartition
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerRegistry

from ..waiting import until

AT_ONCE = Damping(falls_after=1, rises_after=1)
SECRET = "hunter2"


class Part:
    """A component that is as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.finding: Finding | None = None
        self.looks = 0

    async def look(self) -> Finding | None:
        """Fail, or find what was set."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.finding


@pytest.fixture(name="service")
def _service(unique_name: str) -> str:
    return unique_name


def gauge(name: str, **labels: str) -> float | None:
    """The value of a metric."""
    return REGISTRY.get_sample_value(name, labels)


async def body_of(health: ServiceHealth, endpoint: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer."""
    found = await answer(health, endpoint)
    body: dict[str, Any] = json.loads(found.body)
    return found.status, body


def state_of(health: ServiceHealth, name: str) -> ComponentState:
    """The component's state."""
    return next(each for each in health.states() if each.name == name)


async def test_from_start_to_stop(service: str) -> None:
    """Unready and alive while it starts; ready, degraded with cause and since, well again; draining at the end."""
    part = Part()
    health = ServiceHealth(service, config=HealthConfig(drain=DrainConfig(notice_s=0.01, limit_s=1)))
    health.watch(Probe(name="part", look=part.look, interval_s=0.01))
    assert (await body_of(health, "/startup"))[0] == 503
    assert (await body_of(health, "/ready"))[0] == 503
    assert (await body_of(health, "/live"))[0] == 200
    assert (await body_of(health, ""))[1]["checks"]["part"] == "not looked at yet"

    async with health:
        assert await body_of(health, "/startup") == (200, {"status": "pass", "serviceId": service})
        assert await body_of(health, "/ready") == (200, {"status": "pass", "serviceId": service})
        assert (await body_of(health, ""))[1]["status"] == "healthy"
        assert gauge("huleedu_health_ready", service=service) == 1

        before = datetime.now(UTC)
        part.error = ConnectionError(f"postgresql://user:{SECRET}@db/essays refused")
        await until(lambda: state_of(health, "part").level is Level.FAIL)
        assert state_of(health, "part").since is not None
        assert before <= (state_of(health, "part").since or before) <= datetime.now(UTC)
        status, ready = await body_of(health, "/ready")
        assert (status, ready["status"]) == (200, "warn")
        assert "refused" in ready["output"]
        assert gauge("huleedu_health_component_status", service=service, component="part") == 2
        everything = [(await answer(health, endpoint)).body for endpoint in ("", "/ready", "/details")]
        assert SECRET.encode() not in b"".join(everything)

        part.error = None
        await until(lambda: state_of(health, "part").level is Level.PASS)
        assert (await body_of(health, "/ready"))[1]["status"] == "pass"

        await asyncio.wait_for(health.stop_traffic(), 15)
        assert (await body_of(health, "/ready"))[0] == 503
        assert (await body_of(health, "/live"))[0] == 200
        assert gauge("huleedu_health_ready", service=service) == 0


async def test_one_failed_look_is_no_outage(service: str) -> None:
    """A single failure between good looks is shown as the last look, and changes no verdict."""
    part = Part()
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=part.look, interval_s=60))
    async with health:
        part.error = TimeoutError()
        await health._watchers["part"].look()
        status, details = await body_of(health, "/details")

    assert (status, details["status"]) == (200, "pass")
    assert details["checks"]["part"][0]["status"] == "pass"
    assert details["checks"]["part"][0]["lastLook"] == "fail"


async def test_details_are_health_json(service: str) -> None:
    """The details have the form of the draft: a status, and for each component its type, status, time and cause."""
    part = Part()
    part.finding = Finding(level=Level.WARN, cause="half of it is gone", details={"left": 3, "password": SECRET})
    health = ServiceHealth(service, config=HealthConfig(version="1.2.3"))
    health.watch(Probe(name="part", look=part.look, kind="datastore"))
    async with health:
        found = await answer(health, "/details")

    body = json.loads(found.body)
    assert found.headers["Content-Type"] == HEALTH_JSON
    assert (body["status"], body["serviceId"], body["releaseId"], body["life"]) == ("warn", service, "1.2.3", "running")
    check = body["checks"]["part"][0]
    assert check["componentType"] == "datastore"
    assert (check["status"], check["output"], check["impact"]) == ("warn", "half of it is gone", "degrades")
    assert check["details"] == {"left": 3, "password": "***"}
    assert datetime.fromisoformat(check["since"]) <= datetime.fromisoformat(check["time"])
    assert SECRET not in found.body.decode()


async def test_strangers_learn_no_causes(service: str) -> None:
    """With causes switched off the answers say how it is, not why."""
    part = Part()
    part.error = RuntimeError("table essays is missing")
    health = ServiceHealth(service, config=HealthConfig(show_causes=False))
    health.watch(Probe(name="part", look=part.look))
    async with health:
        bodies = [(await answer(health, endpoint)).body.decode() for endpoint in ("", "/ready", "/details")]

    assert not any("essays" in body for body in bodies)
    assert json.loads(bodies[0])["checks"]["part"] == "fail"


async def test_a_look_that_hangs_costs_one_task(service: str) -> None:
    """A look that ignores its cancellation is told as no answer, and no second one is started beside it."""
    let_go, looks = asyncio.Event(), 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=look, timeout_s=0.02, interval_s=0.01, damping=AT_ONCE))
    async with health:
        assert state_of(health, "part").cause == "no answer within 0.02 s"
        await until(lambda: "still hangs" in (state_of(health, "part").cause or ""))
        assert looks == 1
        assert (await body_of(health, "/ready"))[1]["status"] == "warn"
        let_go.set()
        await until(lambda: state_of(health, "part").level is Level.PASS)


@pytest.mark.parametrize("found", [True, {"status": "pass"}, Finding(details=[1]), Finding(level=7)])  # type: ignore[arg-type]  # the faults
async def test_a_look_that_returns_nonsense_is_a_failed_look(service: str, found: Any) -> None:
    """The start goes on, the fault is named, and the watch lives on to see the next, good look."""
    part = Part()
    part.finding = found
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=part.look, interval_s=0.01, damping=AT_ONCE))
    async with health:
        state = state_of(health, "part")
        assert state.level is Level.FAIL
        assert state.cause
        part.finding = None
        await until(lambda: state_of(health, "part").level is Level.PASS)


async def test_what_nobody_has_looked_at_has_no_status(service: str) -> None:
    """The draft's only words are pass, warn and fail; before the first look there is none of them."""
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=Part().look))
    _, body = await body_of(health, "/details")
    assert "status" not in body["checks"]["part"][0]


async def test_a_flood_of_requests_is_one_question_to_the_database(service: str) -> None:
    """All who ask for the full report at the same time get the same one; who asks later gets a new one."""
    asked, answers = 0, asyncio.Event()

    class Checker:
        async def comprehensive_health_check(self) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            await answers.wait()
            return {"overall_status": "healthy", "number": asked}

    health = ServiceHealth(service)
    health.database = Checker()
    flood = [asyncio.create_task(body_of(health, "/database")) for _ in range(100)]
    await asyncio.sleep(0)
    flood.pop().cancel()
    answers.set()
    assert {body["number"] for _, body in await asyncio.gather(*flood)} == {1}
    assert (await body_of(health, "/database"))[1]["number"] == 2


async def test_a_component_may_be_set_to_take_the_replica_out(service: str) -> None:
    """With `Impact.UNREADY` a failed dependency is 503, as it is where all replicas should stop."""
    part = Part()
    part.error = RuntimeError("gone")
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=part.look, impact=Impact.UNREADY))
    async with health:
        assert (await body_of(health, "/ready"))[0] == 503
        assert (await body_of(health, "/live"))[0] == 200
        assert (await body_of(health, ""))[1]["status"] == "unhealthy"


async def test_a_blocked_event_loop_is_found(service: str) -> None:
    """What blocks the loop is told as lag, as a warning, and asks for no restart when it happens once."""
    health = ServiceHealth(service, config=HealthConfig(loop_warn_s=0.2, loop_fail_s=60))
    async with health:
        await asyncio.sleep(0.15)
        await health._watchers["event_loop"].look()
        time.sleep(0.5)  # noqa: ASYNC251  # that is the fault
        await asyncio.sleep(0)
        finding = await health._lag.look()
        assert finding.level is Level.WARN
        assert "asyncio.to_thread" in (finding.cause or "")
        assert (await body_of(health, "/live"))[0] == 200


async def test_watching_is_decided_before_the_start(service: str) -> None:
    """A second component of one name, or one after the start, is refused with what to do."""
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=Part().look))
    with pytest.raises(ValueError, match="'part' is watched already"):
        health.watch(Probe(name="part", look=Part().look))
    async with health:
        with pytest.raises(RuntimeError, match="before start"):
            health.watch(Probe(name="late", look=Part().look))
    with pytest.raises(ValueError, match="must consist of"):
        Probe(name="Two Words", look=Part().look)
    with pytest.raises(ValueError, match="timeout_s of probe 'part' must be positive, got 0"):
        Probe(name="part", look=Part().look, timeout_s=0)


async def test_without_a_database(service: str) -> None:
    """The database's endpoints say that there is none."""
    status, body = await body_of(ServiceHealth(service), "/database")
    assert status == 404
    assert "no database" in body["error"]


async def test_the_console_shows_it(service: str) -> None:
    """The section names every component, the worst first, with cause, age and what a failure means."""
    part = Part()
    part.error = RuntimeError("gone")
    health = ServiceHealth(service)
    health.watch(Probe(name="part", look=part.look))
    async with health:
        reading = await HealthSection(health).read()

    assert reading.summary == "Degraded: part: RuntimeError: gone."
    assert reading.tone is Tone.WARNING
    assert [row.target for row in reading.tables[0].rows] == ["part", "event_loop"]
    assert reading.data["components"][0]["level"] == "fail"
    assert "the service goes on, degraded" in reading.tables[0].rows[0].cells


def stuck(seconds: float = 90.0) -> StuckPartition:
    """A partition held up by a record."""
    return StuckPartition(
        topic="essays", partition=3, offset=17, event_type="t.v1", key="k", since_s=seconds, attempts=9,
        doing="waiting to retry", error="OSError: away",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "level", "says"),
    [
        (ConsumerStatus(running=True, last_poll_s=0.1), Level.PASS, None),
        (ConsumerStatus(running=False), Level.FAIL, "its loop has ended"),
        (ConsumerStatus(running=True, last_poll_s=61), Level.FAIL, "not asked Kafka for records for 61 s"),
        (ConsumerStatus(running=True, last_poll_s=61, last_error="no broker"), Level.WARN, "Kafka: no broker"),
        (ConsumerStatus(running=True, last_poll_s=1, last_commit_s=301, lag={"t": 5}), Level.FAIL, "5 records wait"),
        (ConsumerStatus(running=True, last_commit_s=301, lag={"t": 5}, in_flight=1), Level.PASS, None),
        (ConsumerStatus(running=True, last_commit_s=301, lag={"t": 5}, stuck=(stuck(),)), Level.WARN, "offset 17"),
        (ConsumerStatus(running=True, last_commit_s=301), Level.PASS, None),
        (ConsumerStatus(running=True, lag={"t": 1001}), Level.WARN, "1001 records are not finished (limit 1000)"),
        (ConsumerStatus(running=True, stuck=(stuck(),) * 5), Level.WARN, "2 further partitions"),
    ],
)
def test_slow_is_not_dead(status: ConsumerStatus, level: Level, says: str | None) -> None:
    """Only what a restart mends fails a consumer; the rest is told."""
    finding = judge_consumer(status, ConsumerLimits(lag=1000))
    assert finding.level is level
    assert (says or "") in (finding.cause or "")
    assert (says is None) is (finding.cause is None)


async def test_a_dead_relay_asks_for_a_restart(service: str) -> None:
    """A relay whose loop has ended fails liveness, after three looks."""

    class Relay:
        is_running = True

    relay = Relay()
    health = ServiceHealth(service)
    health.watch(relay_probe(relay, interval_s=0.01))
    async with health:
        assert (await body_of(health, "/live"))[0] == 200
        relay.is_running = False
        await until(lambda: health.live().level is Level.FAIL)
        assert "its loop has ended" in (await body_of(health, "/live"))[1]["output"]


async def test_an_open_breaker_is_told_with_its_cause(service: str) -> None:
    """A breaker that is not closed degrades the service, by name, with why and since when."""
    registry = CircuitBreakerRegistry()
    breaker = CircuitBreaker(name="kafka", failure_threshold=1)
    registry.register("kafka", breaker)
    health = ServiceHealth(service)
    health.watch(breakers_probe(registry))
    async with health:
        assert state_of(health, "circuit_breakers").level is Level.PASS
        breaker.isolate()
        await health._watchers["circuit_breakers"].look()
        found = state_of(health, "circuit_breakers")
        assert (await body_of(health, "/ready"))[0] == 200

    assert found.level is Level.WARN
    assert (found.cause or "").startswith("kafka is open (isolated, since 20")


async def test_the_store_s_conditions_are_told() -> None:
    """The dedupe store's conditions come with what to do; a watch that was not started is told, too."""

    class Watch:
        status = StoreStatus()

    watch = Watch()
    probe = dedupe_store_probe(watch)
    unwatched = await probe.look()
    watch.status = StoreStatus(checked_at=datetime.now(UTC), conditions=("eviction_policy",))
    evicting = await probe.look()
    watch.status = StoreStatus(checked_at=datetime.now(UTC), incidents={"restarted": datetime.now(UTC)})
    restarted = await probe.look()

    assert unwatched is not None
    assert "start its StoreWatch" in (unwatched.cause or "")
    assert evicting is not None
    assert "noeviction" in (evicting.cause or "")
    assert restarted is not None
    assert restarted.level is Level.PASS
    assert "restarted" in restarted.details["incidents"]


async def test_a_consumer_is_seen_through_its_port(service: str) -> None:
    """The probe asks the consumer for its status and nothing else."""

    class Consumer:
        def status(self) -> ConsumerStatus:
            return ConsumerStatus(running=True, partitions=2, lag={"essays": 7})

    health = ServiceHealth(service)
    health.watch(consumer_probe(Consumer()))
    async with health:
        assert state_of(health, "consumer").details["lag"] == {"essays": 7}
