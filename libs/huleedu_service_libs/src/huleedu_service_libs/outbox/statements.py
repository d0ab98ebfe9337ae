"""The SQL of a relay's session: locks, the look for a batch, and the results of one. Knows no connection.

The look is built in one place, `fetch_statement`; whatever decides which rows may leave is a condition there.
"""

from typing import Any

from sqlalchemy import BindParameter, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.types import DateTime, Integer, Text, Uuid

__all__ = [
    "ACQUIRE",
    "COMPLETE",
    "COUNT_RELAYS",
    "DEPTH",
    "FAIL",
    "JOIN",
    "KEY_SQL",
    "LANES",
    "LOCK_SPACE",
    "MEMBERSHIP",
    "RELEASE",
    "REPORT_EXHAUSTED",
    "SETTINGS",
    "WHO_SERVES",
    "fetch_statement",
]

LANES = 64  # a power of two; the most relays that can share the work
MOST_BYTES = 8_000_000  # of the payloads of one batch, of which a relay holds two: one in flight, one read ahead
MEMBERSHIP = 1_000_000  # the lock that every relay holds in shared mode, beyond all lanes

# Advisory locks belong to a database; the schema's name keeps two outboxes of one database apart.
# By name rather than by oid: a table that is dropped and made again keeps its space.
LOCK_SPACE = text(
    "SELECT (hashtext(nspname || '.event_outbox')::bigint & 2147483647)::int FROM pg_class"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = 'event_outbox'::regclass"
)
# One statement for all; a server that does not know a setting (idle_session_timeout came with PostgreSQL 14) skips it.
SETTINGS = text(
    "SELECT set_config(name, value, false) FROM unnest(:names, :values) AS wanted(name, value)"
    " JOIN pg_settings USING (name)"
).bindparams(bindparam("names", type_=ARRAY(Text)), bindparam("values", type_=ARRAY(Text)))
# Which server process answers, and from which port of the client it was reached.
WHO_SERVES = text("SELECT pg_backend_pid(), inet_client_port()")
JOIN = text("SELECT pg_advisory_lock_shared(:space, :membership)")
# How many relays there are, and whether this session's own process is one of them.
COUNT_RELAYS = text(
    "SELECT count(*), coalesce(bool_or(pid = pg_backend_pid()), false) FROM pg_locks"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid::bigint = :space AND objid::bigint = :membership"
)
# The LIMIT ends the scan as soon as enough locks are won; no further one is taken.
ACQUIRE = text(
    "SELECT lane FROM unnest(:candidates) AS lane WHERE pg_try_advisory_lock(:space, lane) LIMIT :wanted"
).bindparams(bindparam("candidates", type_=ARRAY(Integer)))
RELEASE = text("SELECT pg_advisory_unlock(:space, lane) FROM unnest(:lanes) AS lane").bindparams(
    bindparam("lanes", type_=ARRAY(Integer))
)

KEY_SQL = "coalesce(nullif(event_key, ''), aggregate_id)"
"""The key whose order holds: `wire.key_of` in SQL."""
# A time without zone is read in the session's zone, as it was written. The order names the column, not that result.
_COLUMNS = (
    "id, aggregate_id, aggregate_type, event_type, event_data::text, event_key, topic, created_at::timestamptz,"
    " published_at, coalesce(retry_count, 0), last_error, extract(epoch FROM clock_timestamp() - created_at)::float8"
)


# Of a small payload what it takes in the row, compressed or not; of one that may be much larger than that its text.
_BYTES = "CASE WHEN pg_column_size(event_data) < 1000 THEN pg_column_size(event_data) ELSE octet_length(event_data::text) END"


# A key that has an event of a held topic waits behind it, whatever the topics of its later events are. The map from such
# keys to their first such event is made once a look and searched by halves. A join would be the planner's to choose, and
# without statistics it compares each candidate with all that waits.
_NOT_BEHIND_A_HELD_TOPIC = (
    "coalesce(extract(epoch FROM created_at)::float8 < ((SELECT jsonb_object_agg(key, first) FROM"  # noqa: S608  # constants only
    f" (SELECT {KEY_SQL} AS key, extract(epoch FROM min(created_at))::float8 AS first FROM event_outbox"
    " WHERE published_at IS NULL AND coalesce(retry_count, 0) < :max_retries AND topic = ANY(:held_topics)"
    f" GROUP BY 1) AS held) ->> {KEY_SQL})::float8, true)"
)


def fetch_statement(*, before_cutoff: bool = False, topics_held: bool = False) -> TextClause:
    """The look for a batch, oldest first.

    Parameters: ``max_retries``, ``all_lanes``, ``lanes``, ``held_keys``, ``held_topics``, ``in_flight`` (ids that are
    being sent), ``limit``, and ``cutoff`` when asked for. Of payloads there are
    `MOST_BYTES`; the event that crosses them comes along.

    Args:
        before_cutoff: Whether only rows that are older than the parameter ``cutoff`` are looked for.
        topics_held: Whether there are held topics. Then every look goes through all that waits for them, which
            only an outage is worth.
    """
    where = [
        "published_at IS NULL",
        "coalesce(retry_count, 0) < :max_retries",
        f"(:all_lanes OR (hashtextextended({KEY_SQL}, 0) & {LANES - 1})::int = ANY(:lanes))",
        f"{KEY_SQL} <> ALL(:held_keys)",
        "topic <> ALL(:held_topics)",
        "id <> ALL(:in_flight)",
    ]
    parameters: list[BindParameter[Any]] = [
        bindparam("lanes", type_=ARRAY(Integer)),
        bindparam("held_keys", type_=ARRAY(Text)),
        bindparam("held_topics", type_=ARRAY(Text)),
        bindparam("in_flight", type_=ARRAY(Uuid)),
    ]
    if topics_held:
        where.append(_NOT_BEHIND_A_HELD_TOPIC)
    if before_cutoff:
        where.append("event_outbox.created_at < :cutoff")
        parameters.append(bindparam("cutoff", type_=DateTime(timezone=True)))
    # published_at leads the order, so that the partial index (published_at, created_at) serves it.
    order = "event_outbox.published_at, event_outbox.created_at, event_outbox.id"
    # What is beyond the bytes is cut off before its payload is read out.
    return text(
        f"SELECT {_COLUMNS} FROM (SELECT *, sum({_BYTES}) OVER (ORDER BY {order}"  # noqa: S608  # constants only
        " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before FROM"
        f" (SELECT * FROM event_outbox WHERE {' AND '.join(where)} ORDER BY {order} LIMIT :limit) AS event_outbox"
        f") AS event_outbox WHERE coalesce(bytes_before, 0) < {MOST_BYTES} ORDER BY {order}"
    ).bindparams(*parameters)


COMPLETE = text(
    "UPDATE event_outbox SET published_at = now() WHERE id = ANY(:ids) AND published_at IS NULL"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
FAIL = (
    text(
        "UPDATE event_outbox SET retry_count = coalesce(retry_count, 0) + 1, last_error = CASE"
        " WHEN coalesce(retry_count, 0) + 1 >= :max_retries"
        " THEN left('Exceeded max retries (' || :max_retries || '): ' || f.error, :length)"
        " ELSE left(f.error, :length) END"
        " FROM unnest(:ids, :errors) AS f(id, error)"
        " WHERE event_outbox.id = f.id AND published_at IS NULL"
        " RETURNING event_outbox.id, retry_count"
    )
    .bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("errors", type_=ARRAY(Text)))
    .columns(id=Uuid)
)
REPORT_EXHAUSTED = text(
    "UPDATE event_outbox SET last_error = left('Exceeded max retries (' || :max_retries || '): '"
    " || coalesce(last_error, 'no error stored'), :length)"
    " WHERE id IN (SELECT id FROM event_outbox WHERE published_at IS NULL AND retry_count >= :max_retries"
    " AND coalesce(last_error, '') NOT LIKE 'Exceeded max retries%' FOR UPDATE SKIP LOCKED) RETURNING id"
)
DEPTH = text("SELECT count(*) FROM event_outbox WHERE published_at IS NULL AND coalesce(retry_count, 0) < :max_retries")
