"""Does PostgreSQL keep the outbox table clean, and if not, what to set and who is in the way?

Every published event leaves a dead row version, every purged one another.
Autovacuum's defaults wait until a fifth of the table is dead, which for a table
of old published rows is late: each batch then walks over dead index entries.
And vacuum removes nothing that an old transaction might still see.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs.outbox.sessions import bounded

__all__ = ["BloatReport", "HorizonHolder", "check_bloat"]

_SCALE = 0.02  # of the table; more dead rows than that are felt
_THRESHOLD = 2000  # dead rows after which the table is vacuumed, as advised; a few seconds' worth under load
_MUCH_DEAD = 20_000  # and more than twice what should have started a vacuum: it does not keep up
_SETTINGS = (
    "ALTER TABLE event_outbox SET (autovacuum_vacuum_scale_factor = 0.0, "
    f"autovacuum_vacuum_threshold = {_THRESHOLD}, autovacuum_vacuum_cost_delay = 0)"
)

_TABLE = text(
    "SELECT coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), greatest(c.reltuples, 0)::bigint,"
    " pg_table_size(c.oid), pg_indexes_size(c.oid), s.last_autovacuum,"
    " coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)"
    " WHERE option_name = 'autovacuum_vacuum_scale_factor'), current_setting('autovacuum_vacuum_scale_factor'))::float8,"
    " coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)"
    " WHERE option_name = 'autovacuum_vacuum_threshold'), current_setting('autovacuum_vacuum_threshold'))::bigint,"
    " coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)"
    " WHERE option_name = 'autovacuum_enabled'), 'true')::bool,"
    " current_setting('autovacuum')::bool AND current_setting('track_counts')::bool"
    " FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = 'event_outbox'::regclass"
)
_HOLDERS = text(
    "SELECT CASE WHEN backend_type = 'walsender' THEN 'standby' ELSE 'session' END, pid, coalesce(application_name, ''),"
    " coalesce(usename, ''), coalesce(state, ''),"
    " extract(epoch FROM clock_timestamp() - coalesce(xact_start, backend_start))::float8,"
    " greatest(age(backend_xmin), age(backend_xid))"
    " FROM pg_stat_activity WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()"
    " AND backend_type NOT LIKE 'autovacuum%' AND clock_timestamp() - coalesce(xact_start, backend_start)"
    " > make_interval(secs => :limit)"
    " AND (datname = current_database() OR datname IS NULL OR backend_type = 'walsender')"
    " UNION ALL SELECT 'prepared transaction', NULL, gid, owner, 'prepared',"
    " extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction) FROM pg_prepared_xacts"
    " WHERE database = current_database() AND clock_timestamp() - prepared > make_interval(secs => :limit)"
    " UNION ALL SELECT 'replication slot', active_pid, slot_name, '', CASE WHEN active THEN 'active' ELSE 'inactive' END,"
    " NULL, age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL"
    " ORDER BY 7 DESC LIMIT 20"
)
_FIXES = {
    "session": "end its transaction: SELECT pg_terminate_backend({pid})",
    "standby": "a query on the standby holds it (hot_standby_feedback); end it there",
    "prepared transaction": "COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}'",
    "replication slot": "let its consumer catch up, or SELECT pg_drop_replication_slot('{name}')",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonHolder:
    """Who keeps vacuum from removing dead rows.

    Attributes:
        kind: ``session``, ``standby``, ``prepared transaction`` or ``replication slot``.
        pid: Of the session, where there is one.
        name: Application, global id or slot.
        role: Whose it is.
        state: As PostgreSQL says.
        age_seconds: How long the transaction runs; ``None`` for a slot.
        transactions: How many transactions ago its view begins.
        fix: What ends it.
    """

    kind: str
    pid: int | None
    name: str
    role: str
    state: str
    age_seconds: float | None
    transactions: int
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BloatReport:
    """How clean the table is.

    Attributes:
        live_rows: As PostgreSQL estimates.
        dead_rows: Versions that wait for vacuum.
        table_bytes: With its TOAST.
        index_bytes: Of all its indexes.
        last_autovacuum: When it was last cleaned, if ever.
        vacuum_starts_at: Dead rows at which autovacuum starts, as things are set.
        holders: Who keeps dead rows from being removed, the oldest view first.
        problems: What is wrong, in sentences.
        statements: What to run, in this order.
    """

    live_rows: int
    dead_rows: int
    table_bytes: int
    index_bytes: int
    last_autovacuum: datetime | None
    vacuum_starts_at: int
    holders: tuple[HorizonHolder, ...]
    problems: tuple[str, ...]
    statements: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        moment = None if self.last_autovacuum is None else self.last_autovacuum.isoformat()
        return {**asdict(self), "last_autovacuum": moment, "holders": [asdict(one) for one in self.holders]}


async def check_bloat(engine: AsyncEngine, *, holder_age_s: float = 60.0, timeout_s: float = 10.0) -> BloatReport:
    """Read the statistics and say what to set. Changes nothing.

    Args:
        engine: Where the table is. Sessions of other roles are only seen with ``pg_read_all_stats``.
        holder_age_s: From which age on a transaction is named.
        timeout_s: For each statement.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: It is out of reach, or there is no such table.
    """
    async with bounded(engine, timeout_s) as connection:
        row = (await connection.execute(_TABLE)).one()
        holders = await _holders(connection, holder_age_s)
    live, dead, rows, table_bytes, index_bytes, cleaned, scale, threshold, enabled, running = row
    starts_at = round(threshold + scale * rows)
    problems, statements = _advice(dead, starts_at, scale, enabled=enabled, running=running)
    problems += [
        f"vacuum removes nothing younger than the view of {one.kind} {one.pid or one.name!r}" for one in holders
    ]
    return BloatReport(
        live_rows=live,
        dead_rows=dead,
        table_bytes=table_bytes,
        index_bytes=index_bytes,
        last_autovacuum=cleaned,
        vacuum_starts_at=starts_at,
        holders=tuple(holders),
        problems=tuple(problems),
        statements=tuple(statements),
    )


async def _holders(connection: AsyncConnection, limit: float) -> list[HorizonHolder]:
    found = await connection.execute(_HOLDERS, {"limit": float(limit)})
    return [
        HorizonHolder(
            kind=kind,
            pid=pid,
            name=name,
            role=role,
            state=state,
            age_seconds=age,
            transactions=int(transactions or 0),
            fix=_FIXES[kind].format(pid=pid, name=name.replace("'", "''")),
        )
        for kind, pid, name, role, state, age, transactions in found
    ]


def _advice(dead: int, starts_at: int, scale: float, *, enabled: bool, running: bool) -> tuple[list[str], list[str]]:
    """What is wrong with the settings, and the statements that mend it; pure."""
    problems, statements = [], []
    if not running:
        problems.append("autovacuum or track_counts is off for the whole server: nothing is ever cleaned")
        statements += [
            "ALTER SYSTEM SET autovacuum = on",
            "ALTER SYSTEM SET track_counts = on",
            "SELECT pg_reload_conf()",
        ]
    if not enabled:
        problems.append("autovacuum is switched off for this table")
        statements.append("ALTER TABLE event_outbox RESET (autovacuum_enabled)")
    if scale > _SCALE:
        problems.append(
            f"autovacuum waits for {scale:.0%} of the table, {starts_at} dead rows as it is now: the more published"
            " rows are kept, the later it comes"
        )
        statements.append(_SETTINGS)
    if dead > max(_MUCH_DEAD, 2 * starts_at):
        problems.append(f"{dead} rows are dead, vacuum should have started at {starts_at}: it does not keep up")
        statements.append("VACUUM event_outbox")
    return problems, statements
