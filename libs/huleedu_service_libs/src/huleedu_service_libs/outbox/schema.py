"""Is the table fit for the outbox? Asked at start-up, and by whoever operates it.

Services made their tables themselves, so every variant that works passes:
JSON or JSONB, times with or without zone, shorter columns, other names of
indexes. What cannot work is a fault; what works but slowly, or not always, is
advice, with the statement that mends it.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.catalogue import ColumnFacts, TableFacts, read_table_facts, zone_is_utc

__all__ = ["Finding", "OutboxSchemaError", "SchemaReport", "check_schema", "log_findings", "require_schema"]

logger = create_service_logger("huleedu.outbox.schema")

_TEXT = ("character varying", "text")
_TIME = ("timestamp with time zone", "timestamp without time zone")
_FITTING_TYPES: dict[str, tuple[str, ...]] = {
    "id": ("uuid",),
    "aggregate_id": _TEXT,
    "aggregate_type": _TEXT,
    "event_type": _TEXT,
    "event_data": ("json", "jsonb"),
    "event_key": _TEXT,
    "topic": _TEXT,
    "created_at": _TIME,
    "published_at": _TIME,
    "retry_count": ("integer", "bigint", "smallint"),
    "last_error": _TEXT,
}
_OPTIONAL = ("event_key", "published_at", "last_error")  # the outbox writes NULL into them
_LONGEST_ERROR = 1000  # what the relay writes into last_error
_SHORT = 100  # below this, ordinary values of services are cut off
_INDEX = (
    "CREATE INDEX CONCURRENTLY ix_event_outbox_unpublished ON event_outbox (published_at, created_at)"
    " WHERE published_at IS NULL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is missing or unfit.

    Attributes:
        severity: A ``fault`` cannot work; ``advice`` works, but slowly or not always.
        subject: What it is about, as ``column event_data``.
        problem: What is wrong with it, with the value that was found.
        fix: What to do, a statement where there is one.
    """

    severity: Literal["fault", "advice"]
    subject: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject} {self.problem}. Fix: {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """All findings; empty when there is nothing to say.

    Attributes:
        findings: Faults first.
    """

    findings: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        """Whether the outbox can work with this table."""
        return not any(one.severity == "fault" for one in self.findings)


class OutboxSchemaError(RuntimeError):
    """The outbox cannot work with this table.

    Attributes:
        report: Everything that was found.
    """

    def __init__(self, report: SchemaReport) -> None:
        faults = "; ".join(str(one) for one in report.findings if one.severity == "fault")
        super().__init__(f"The table event_outbox is unfit. {faults}")
        self.report = report


async def check_schema(engine: AsyncEngine, *, timeout_s: float = 10.0) -> SchemaReport:
    """Compare the table with what the outbox needs.

    Args:
        engine: Where the table is; connect with the options (role, search path, time zone) that the service uses.
        timeout_s: For all queries together.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: It is out of reach.
    """
    async with asyncio.timeout(timeout_s), engine.connect() as connection:
        return _judge(await read_table_facts(connection))


async def require_schema(engine: AsyncEngine, *, timeout_s: float = 10.0) -> SchemaReport:
    """`check_schema`, for a start-up that must not go on with an unfit table; advice is logged.

    Args:
        engine: As for `check_schema`.
        timeout_s: For all queries together.

    Raises:
        OutboxSchemaError: There is a fault; the text names each, with its fix.
    """
    report = await check_schema(engine, timeout_s=timeout_s)
    if not report.fit:
        raise OutboxSchemaError(report)
    log_findings(report)
    return report


def log_findings(report: SchemaReport) -> None:
    """One log line a finding."""
    for one in report.findings:
        log = logger.error if one.severity == "fault" else logger.warning
        log("outbox_schema_finding", severity=one.severity, subject=one.subject, problem=one.problem, fix=one.fix)


def _judge(facts: TableFacts | None) -> SchemaReport:
    """What is missing or unfit; pure."""
    if facts is None:
        missing = _fault(
            "table event_outbox",
            "is missing on the search path",
            "run the service's migrations (alembic upgrade head); a revision calls create_outbox_table(op)",
        )
        return SchemaReport(findings=(missing,))
    found = [*_of_table(facts), *_of_columns(facts), *_of_indexes(facts), *_of_times(facts)]
    return SchemaReport(findings=tuple(sorted(found, key=lambda one: one.severity != "fault")))


def _of_table(facts: TableFacts) -> Iterator[Finding]:
    name = f"table {facts.schema}.event_outbox"
    if facts.kind not in ("r", "p"):
        yield _fault(name, f"is no table (relkind {facts.kind!r})", "let the search path lead to the table itself")
    if facts.missing_privileges:
        rights = ", ".join(facts.missing_privileges)
        yield _fault(
            name,
            f"may not be used by role {facts.role!r}: {rights} missing",
            f'GRANT {rights} ON {facts.schema}.event_outbox TO "{facts.role}"',
        )


def _of_columns(facts: TableFacts) -> Iterator[Finding]:
    for name, types in _FITTING_TYPES.items():
        column = facts.columns.get(name)
        if column is None:
            yield _fault(f"column {name}", "is missing", f"ALTER TABLE event_outbox ADD {name} {_model_type(name)}")
        elif column.type not in types:
            yield _fault(f"column {name}", f"has type {column.type}", f"needs {' or '.join(types)}")
        else:
            yield from _of_column(column)
    for column in facts.columns.values():
        if column.name not in _FITTING_TYPES and column.required and not column.has_default:
            yield _fault(
                f"column {column.name}",
                "is NOT NULL without a default, and the outbox does not fill it",
                f"ALTER TABLE event_outbox ALTER {column.name} DROP NOT NULL",
            )


def _of_column(column: ColumnFacts) -> Iterator[Finding]:
    subject = f"column {column.name}"
    if column.name in _OPTIONAL and column.required:
        yield _fault(
            subject,
            "is NOT NULL, the outbox stores NULL",
            f"ALTER TABLE event_outbox ALTER {column.name} DROP NOT NULL",
        )
    if column.length is None:
        return
    if column.name == "last_error" and column.length < _LONGEST_ERROR:
        yield _fault(
            subject,
            f"holds {column.length} characters, errors have up to {_LONGEST_ERROR}",
            "ALTER TABLE event_outbox ALTER last_error TYPE text",
        )
    elif column.length < _SHORT:
        yield _advice(
            subject,
            f"holds {column.length} characters, longer values are refused when an event is added",
            f"ALTER TABLE event_outbox ALTER {column.name} TYPE {_model_type(column.name)}",
        )


def _of_indexes(facts: TableFacts) -> Iterator[Finding]:
    usable = [index for index in facts.indexes if index.valid]
    for index in facts.indexes:
        if not index.valid:
            yield _advice(
                f"index {index.name}", "is invalid and serves nobody", f"REINDEX INDEX CONCURRENTLY {index.name}"
            )
    if not any(index.unique and index.columns == ("id",) and not index.predicate for index in usable):
        yield _fault(
            "index on id",
            "is missing: results would be stored by reading the whole table, and ids could repeat",
            "ALTER TABLE event_outbox ADD PRIMARY KEY (id)",
        )
    whole_or_waiting = ("", "(published_at IS NULL)")
    if not any(
        one.columns[:2] == ("published_at", "created_at") and one.predicate in whole_or_waiting for one in usable
    ):
        yield _advice(
            "index ix_event_outbox_unpublished",
            "is missing: each batch sorts everything that waits (an index with topic in the middle does not serve)",
            _INDEX,
        )


def _of_times(facts: TableFacts) -> Iterator[Finding]:
    kinds = {facts.columns[name].type for name in ("created_at", "published_at") if name in facts.columns}
    if len(kinds) > 1:
        yield _advice("columns created_at, published_at", "differ: one has a time zone", "give both the same type")
    if facts.times_are_naive and not zone_is_utc(facts.time_zone):
        yield _advice(
            "column created_at",
            f"has no time zone and this session's is {facts.time_zone}: times repeat when summer time ends, and"
            " sessions with another zone read them shifted",
            "connect with connect_args={'server_settings': {'timezone': 'UTC'}}",
        )


def _model_type(name: str) -> str:
    types = {"id": "uuid", "event_data": "json", "created_at": "timestamptz NOT NULL DEFAULT now()"}
    types |= {"published_at": "timestamptz", "retry_count": "integer NOT NULL DEFAULT 0", "last_error": "text"}
    return types.get(name, "varchar(255)")


def _fault(subject: str, problem: str, fix: str) -> Finding:
    return Finding(severity="fault", subject=subject, problem=problem, fix=fix)


def _advice(subject: str, problem: str, fix: str) -> Finding:
    return Finding(severity="advice", subject=subject, problem=problem, fix=fix)
