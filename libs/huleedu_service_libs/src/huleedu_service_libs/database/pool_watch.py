"""The listeners of an engine's pool: one watch belongs to an engine, however often monitoring is set up.

`ConnectionPoolMonitor` lets metrics join it. The events survive ``engine.dispose()``, for SQLAlchemy hands them to the
new pool; the timing of ``pool.connect()`` is put onto the new pool when the old one makes it.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from prometheus_client import Gauge
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._tallies import before_read
from huleedu_service_libs.database.engine_metrics import PoolMetrics
from huleedu_service_libs.database.engines import root_engine
from huleedu_service_libs.database.pool_sums import figures_of, key_of, sharing_of, tell_sum
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
from huleedu_service_libs.database.survived import note_survived

__all__ = ["PROBING", "PoolWatch", "known_watch", "watch_of"]

PROBING: ContextVar[bool] = ContextVar("huleedu_database_probing", default=False)
"""True inside a health check's own connection, which is no part of the pool's figures."""

_OUT_SINCE = "huleedu_out_since"
_CREATE_SINCE = "huleedu_create_since"


_watches: "WeakKeyDictionary[Engine, PoolWatch]" = WeakKeyDictionary()


def watch_of(engine: Engine) -> "PoolWatch":
    """The watch of a root engine, made when there is none."""
    watch = _watches.get(engine)
    if watch is None:
        watch = _watches[engine] = PoolWatch(engine)
    return watch


def known_watch(engine: Any) -> "PoolWatch | None":
    """The watch of an engine, or None when nobody watches it."""
    try:
        return _watches.get(root_engine(engine))
    except TypeError:
        return None


class PoolWatch:
    """The listeners of one engine's pool. Holds it weakly: a pool's own listeners hold the engine.

    Attributes:
        pending: Callers that wait now.
        invalid: Records whose connections were found broken and are not yet replaced.
        metrics: Who is told, by kind and service.
        further: Who is told more, by service.
    """

    def __init__(self, engine: Engine, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._pool: Callable[[], Any] = ref(engine.pool)
        self.pending = 0
        self.invalid: WeakSet[Any] = WeakSet()
        self.metrics: dict[object, DatabaseMetricsProtocol] = {}
        self._at_once: dict[object, DatabaseMetricsProtocol] = {}  # told at each connection
        self._when_read: set[object] = set()  # told when somebody reads them
        self.further: dict[str, PoolMetrics] = {}
        for name, listener in (
            ("connect", self._on_connect),
            ("detach", self._on_detach),
            ("invalidate", self._on_invalidate),
            ("soft_invalidate", self._on_invalidate),
            ("do_connect", self._on_do_connect),
        ):
            event.listen(engine, name, _survive(listener))
        event.listen(engine, "checkin", self._on_checkin)
        self._observe(engine.pool)

    def join(self, metrics: DatabaseMetricsProtocol) -> None:
        """Tell ``metrics`` from now on, in place of an earlier one of the same kind and service."""
        key = key_of(metrics)
        # Others, for threads may be looking through the old ones.
        self.metrics = {**self.metrics, key: metrics}
        if key not in self._when_read:
            self._at_once = {**self._at_once, key: metrics}
        sharing_of(key).add(self)
        self._refresh()

    def tell_when_read(self, metrics: DatabaseMetricsProtocol, gauges: Iterable[Gauge]) -> None:
        """Tell ``metrics`` the figures when one of ``gauges`` is read, and nothing any longer at each connection."""
        key = key_of(metrics)
        self._when_read.add(key)
        self._at_once = {other: told for other, told in self._at_once.items() if other != key}
        for gauge in gauges:
            before_read(gauge, tell_sum, lambda: tell_sum(key, metrics))

    def figures(self) -> tuple[int, int, int]:
        """Connections in use, idle, and the pool's size."""
        return figures_of(self._pool())

    def _refresh(self, *, returning: bool = False) -> tuple[int, int]:
        """Set the gauges; ``returning``: as if one more were back in the pool already. Size and overflow."""
        active, idle, size = figures_of(self._pool())
        if returning and active:
            active -= 1
            idle += idle < size  # a full pool closes what comes back
        overflow = max(0, active + idle - size) if size else 0
        for key, metrics in self._at_once.items():
            tell_sum(key, metrics, (active, idle, overflow), without=self)
        return size, overflow

    def _on_connect(self, _connection: Any, record: Any) -> None:
        self.invalid.discard(record)
        since = record.info.pop(_CREATE_SINCE, None)
        if since is not None:
            took = self._clock() - since
            for further in self.further.values():
                further.create.note(took)

    def _on_do_connect(self, _dialect: Any, record: Any, _args: Any, _parameters: Any) -> None:
        if record is not None:
            record.info[_CREATE_SINCE] = self._clock()

    def _on_taken(self, connection: Any, asked: float) -> None:
        # No event for it: listening to "checkout" costs more than this, and the wait ends here anyhow.
        try:
            now = self._clock()
            connection.info[_OUT_SINCE] = now
            for further in self.further.values():
                further.wait.note(now - asked)
            if self._at_once:
                size, overflow = self._refresh()
                for metrics in self._at_once.values():
                    metrics.record_connection_acquired(size, overflow)
        except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("pool", error)

    def _on_checkin(self, _connection: Any, record: Any) -> None:
        self._on_returned(record, returning=True)  # the event comes before the pool has it back

    def _on_detach(self, _connection: Any, record: Any) -> None:
        """The connection is its user's from now on; its place in the pool was free before this event came."""
        self._on_returned(record, returning=False)

    def _on_returned(self, record: Any, *, returning: bool) -> None:
        try:
            since = record.info.pop(_OUT_SINCE, None)
            if since is None:  # a probe's, or taken before anybody watched
                return
            held = self._clock() - since
            for further in self.further.values():
                further.use.note(held)
            if self._at_once:
                size, overflow = self._refresh(returning=returning)
                for metrics in self._at_once.values():
                    metrics.record_connection_released(size, overflow)
        except Exception as error:  # noqa: BLE001  # as above
            note_survived("pool", error)

    def _on_invalidate(self, _connection: Any, record: Any, error: BaseException | None) -> None:
        self.invalid.add(record)
        for further in self.further.values():
            further.invalidations.inc()
        if error is not None:
            for metrics in list(self.metrics.values()):
                metrics.record_database_error(type(error).__name__, "connection_invalidate")

    def _follow(self, pool: Any) -> None:
        """Watch whatever takes the place of this pool too: ``engine.dispose()`` has it made by the pool itself.

        There is an event for it, ``engine_disposed``; but one listener to any event of connections makes SQLAlchemy
        join two dispatchers for each connection object, which costs more than all of this.
        """
        recreate: Callable[[], Any] = pool.recreate

        def recreate_watched() -> Any:
            successor = recreate()
            if not PROBING.get():
                _survive(self._take_over)(successor)
            return successor

        pool.recreate = recreate_watched

    def _take_over(self, pool: Any) -> None:
        self.invalid.clear()
        self._observe(pool)
        self._refresh()

    def _observe(self, pool: Any) -> None:
        self._pool = ref(pool)
        self._time_waits(pool)
        self._follow(pool)

    def _time_waits(self, pool: Any) -> None:
        """Put the timing onto this very pool; a new pool comes without it."""
        connect: Callable[[], Any] = pool.connect
        idle: Callable[[], int] = getattr(pool, "checkedin", int)

        def timed_connect() -> Any:
            if PROBING.get():
                return connect()
            since = self._clock()
            # With one idle nobody waits: the gauge is left alone.
            pends = not idle()
            if pends:
                self._pend(1)
            try:
                connection = connect()
            except PoolTimeoutError:
                self._count_timeout()
                raise
            finally:
                if pends:
                    self._pend(-1)
            self._on_taken(connection, since)
            return connection

        pool.connect = timed_connect

    def _pend(self, change: int) -> None:
        self.pending += change
        for further in self.further.values():
            further.pending.inc(change)

    def _count_timeout(self) -> None:
        for further in self.further.values():
            further.timeouts.inc()


def _survive(listener: Callable[..., None]) -> Callable[..., None]:
    """``listener``, which raises nothing and leaves probes alone."""

    def listen(*args: Any) -> None:
        if PROBING.get():
            return
        try:
            listener(*args)
        except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("pool", error)

    return listen
