"""What the database says about the outbox table: a picture of it, read from PostgreSQL's catalogue.

`schema` judges it. One place for the queries, none for opinions.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["ColumnFacts", "IndexFacts", "TableFacts", "read_table_facts", "zone_is_utc"]

_TABLE = text(
    "SELECT c.oid::bigint, n.nspname, c.relkind::text,"
    " current_user, current_setting('TimeZone'),"
    " array_remove(ARRAY[CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,"
    " CASE WHEN NOT has_table_privilege(c.oid, 'INSERT') THEN 'INSERT' END,"
    " CASE WHEN NOT has_table_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END], NULL)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('event_outbox')"
)
_COLUMNS = text(
    "SELECT a.attname, format_type(a.atttypid, NULL),"
    " CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 0 THEN a.atttypmod - 4 END,"
    " a.attnotnull, a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''"
    " FROM pg_attribute a WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
_INDEXES = text(
    "SELECT c.relname, i.indisunique, i.indisvalid, coalesce(pg_get_expr(i.indpred, i.indrelid), ''),"
    " ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k)"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = :oid ORDER BY c.relname"
)

_ZONES_WITHOUT_OFFSET = ("UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "UCT", "Etc/UCT", "Universal", "Etc/Zulu")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """A column.

    Attributes:
        name: Its name.
        type: As PostgreSQL spells it, without length.
        length: Characters it holds, ``None`` without limit.
        required: Whether it is NOT NULL.
        has_default: Whether the server fills it in.
    """

    name: str
    type: str
    length: int | None
    required: bool
    has_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """An index.

    Attributes:
        name: Its name.
        unique: Whether it holds each value once.
        valid: False after a ``CREATE INDEX CONCURRENTLY`` that failed.
        predicate: Condition of a partial index, else empty.
        columns: What it sorts by, in order.
    """

    name: str
    unique: bool
    valid: bool
    predicate: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """The table ``event_outbox`` as a connection sees it.

    Attributes:
        schema: Where it was found on the search path.
        kind: PostgreSQL's letter: ``r`` a table, ``p`` a partitioned one, ``v`` a view.
        role: Who asks.
        time_zone: The session's.
        missing_privileges: Those of SELECT, INSERT and UPDATE that the role has not.
        columns: By name.
        indexes: All of them.
    """

    schema: str
    kind: str
    role: str
    time_zone: str
    missing_privileges: tuple[str, ...]
    columns: dict[str, ColumnFacts]
    indexes: tuple[IndexFacts, ...]

    @property
    def times_are_naive(self) -> bool:
        """Whether times are stored without a zone, in that of whichever session writes them."""
        return any(
            self.columns[name].type == "timestamp without time zone"
            for name in ("created_at", "published_at")
            if name in self.columns
        )


async def read_table_facts(connection: AsyncConnection) -> TableFacts | None:
    """Read them; ``None`` when the search path leads to no ``event_outbox``."""
    found = (await connection.execute(_TABLE)).one_or_none()
    if found is None:
        return None
    oid, schema, kind, role, time_zone, missing = found
    columns = [
        ColumnFacts(name=name, type=kind_of, length=length, required=required, has_default=has_default)
        for name, kind_of, length, required, has_default in await connection.execute(_COLUMNS, {"oid": oid})
    ]
    indexes = [
        IndexFacts(name=name, unique=unique, valid=valid, predicate=predicate, columns=tuple(keys))
        for name, unique, valid, predicate, keys in await connection.execute(_INDEXES, {"oid": oid})
    ]
    return TableFacts(
        schema=schema,
        kind=kind,
        role=role,
        time_zone=time_zone,
        missing_privileges=tuple(missing),
        columns={column.name: column for column in columns},
        indexes=tuple(indexes),
    )


def zone_is_utc(name: str) -> bool:
    """Whether a time zone of that name never differs from UTC."""
    return name in _ZONES_WITHOUT_OFFSET
