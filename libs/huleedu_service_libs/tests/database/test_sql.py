"""Reading SQL: its verb and table, and its text without values."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.database.sql import Shape, is_single, shape_of, summary
from huleedu_service_libs.database.sql_values import fingerprint, normalise, plan_without_values


@pytest.mark.parametrize(
    ("sql", "operation", "table"),
    [
        ("SELECT essays.id, essays.title FROM essays WHERE essays.id = $1::INTEGER", "select", "essays"),
        ("  -- a note\n select 1 from public.essays e", "select", "essays"),
        ('SELECT * FROM "Essay Store"."Drafts"', "select", "Drafts"),
        ("SELECT count(*) FROM (SELECT 1 FROM inner_table) AS t", "select", "inner_table"),
        ("SELECT extract(epoch FROM created) FROM essays", "select", "created"),
        ("SELECT 1", "select", "unknown"),
        ("SELECT pg_sleep(1)", "select", "unknown"),
        ("SELECT * FROM generate_series(1, 3)", "select", "unknown"),
        ("INSERT INTO essays (id) VALUES ($1)", "insert", "essays"),
        ("INSERT INTO essays(id) VALUES (1)", "insert", "essays"),
        ("UPDATE ONLY essays SET title = 'from users'", "update", "essays"),
        ("DELETE FROM essays WHERE id IN (1, 2)", "delete", "essays"),
        ("WITH old AS (DELETE FROM drafts RETURNING *) INSERT INTO essays SELECT * FROM old", "insert", "essays"),
        ("WITH RECURSIVE n(i) AS (SELECT 1) SELECT * FROM n", "select", "n"),
        ("MERGE INTO essays USING drafts ON true WHEN MATCHED THEN DELETE", "merge", "essays"),
        ("CREATE TABLE IF NOT EXISTS essays (id int)", "create", "essays"),
        ("DROP TABLE essays", "drop", "essays"),
        ("TRUNCATE essays", "truncate", "essays"),
        ("SAVEPOINT sa_savepoint_1", "savepoint", "unknown"),
        ("SELECT ' FROM secrets ' FROM essays", "select", "essays"),
        ("nonsense from essays", "other", "unknown"),
        ("", "other", "unknown"),
    ],
)
def test_a_statement_has_a_verb_and_a_table(sql: str, operation: str, table: str) -> None:
    """Labels come from the statement's own words; what is no plain table is `unknown`."""
    assert shape_of(sql) == Shape(operation, table)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM t WHERE a = 'it''s' AND b = 12.5e3", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("SELECT E'a\\'b', 'c\\' AS x, 'd'", "SELECT ?, ? AS x, ?"),
        ("SELECT $$a 'quoted' b$$, $q$ x $$ y $q$", "SELECT ?, ?"),
        ("SELECT /* secret 1 */ a -- secret 2\nFROM t", "SELECT a FROM t"),
        ("SELECT a FROM t WHERE id IN ($1::INTEGER, $2::INTEGER, $3::INTEGER)", "SELECT a FROM t WHERE id IN (?, ...)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO t VALUES (?, ...), ..."),
        ('SELECT "col 1", t1.a2 FROM t1', 'SELECT "col 1", t1.a2 FROM t1'),
        ("SELECT x::text, %(name)s, :other, a[1:2]", "SELECT x::text, ?, ?, a[?:?]"),
        ("SELECT 'never closed", "SELECT ?"),
        ("SELECT $tag$ never closed", "SELECT ?"),
        ("/* a /* nested */ secret */ SELECT 1 /* never closed", "SELECT ?"),
        ("SELECT E'cut off behind a \\' b \\", "SELECT ?"),
        ("SET app.token = s3cret", "SET app.token = ?"),
        ("set local app.token to s3cret, other", "set local app.token to ?"),
        ("SELECT ARRAY['a', 'b', 'c'], ARRAY[1,2]", "SELECT ARRAY[?, ...], ARRAY[?, ...]"),
        ("INSERT INTO t VALUES ($1::VARCHAR(32), $2::NUMERIC(10, 2), -1, NULL)", "INSERT INTO t VALUES (?, ...)"),
        ("INSERT INTO t VALUES (1, NULL), (-2, DEFAULT), (3, 4)", "INSERT INTO t VALUES (?, ...), ..."),
        ("INSERT INTO t VALUES ($1::INTEGER), ($2::INTEGER)", "INSERT INTO t VALUES (?::INTEGER), ..."),
        ("INSERT INTO t VALUES ($1, now()), ($2, now()), ($3, now())", "INSERT INTO t VALUES (?, now()), ..."),
    ],
)
def test_values_are_hidden(sql: str, expected: str) -> None:
    """No literal, parameter or comment is left, and statements that differ in values alone become equal."""
    assert normalise(sql) == expected
    assert fingerprint(normalise(sql)) == fingerprint(expected)


@given(st.text(max_size=30), st.sampled_from(["'{}'", "E'{}'", "$x${}$x$", "/*{}*/", "/*/**/{}*/", "-- {}\n"]))
def test_no_value_passes(value: str, form: str) -> None:
    """Whatever stands inside a literal or a comment, no word of it is left."""
    marked = "geheim" + value.replace("$x$", "").replace("*", "").replace("\n", "").replace("\\", "\\\\")
    quoted = marked.replace("'", "''")
    assert "geheim" not in normalise(f"SELECT a FROM t WHERE b = {form.format(quoted)} AND c = 1")  # noqa: S608  # nothing runs it


@given(st.text())
def test_nonsense_is_survived(text: str) -> None:
    """Any text has a shape and a normal form."""
    assert summary(shape_of(text))
    assert len(normalise(text)) <= 2_003


def test_a_huge_statement_is_read_in_bounded_time() -> None:
    """Megabytes of SQL cost no more than their first part."""
    started = time.perf_counter()
    for opener in ("SELECT '", "SELECT (", "SELECT $a$ $b$", "SELECT /* ", "SELECT 1,", 'SELECT "'):
        normalise(opener + "a, 1, $1, " * 500_000)
        shape_of(opener * 500_000)
    assert time.perf_counter() - started < 5


def test_huge_statements_are_not_remembered() -> None:
    """What is kept for the next time is the part that was read, not the megabytes behind it."""
    statement = "INSERT INTO essays VALUES " + "(1, 2, 3), " * 100_000
    before = sys.getrefcount(statement)
    shape_of(statement)
    normalise(statement)
    assert sys.getrefcount(statement) == before


@pytest.mark.parametrize(
    ("sql", "single"),
    [
        ("SELECT 1", True),
        ("SELECT ';' ; -- ;\n", True),
        ("SELECT 1; COMMIT; DELETE FROM essays", False),
        ("SELECT 1;;SELECT 2", False),
    ],
)
def test_statements_behind_a_semicolon_are_seen(sql: str, *, single: bool) -> None:
    """Only a statement that stands alone may have EXPLAIN put in front."""
    assert is_single(sql) is single


def test_a_plan_keeps_its_estimates_and_its_shape_but_no_value() -> None:
    """Costs, rows and indentation stay; literals go, also those that span lines or look like an estimate."""
    plan = [
        "Seq Scan on essays  (cost=0.00..35.50 rows=2550 width=4)",
        "  Filter: ((id > 4711) AND (title = 'geheim (cost=1.00..2.00 rows=3 width=4)",
        "geheim 99'::text))",
        "  ->  Index Scan using essays_pkey on essays  (cost=0.15..8.17 rows=1 width=36)",
    ]
    assert plan_without_values(plan) == [
        "Seq Scan on essays  (cost=0.00..35.50 rows=2550 width=4)",
        "  Filter: ((id > ?) AND (title = ?::text))",
        "  ->  Index Scan using essays_pkey on essays  (cost=0.15..8.17 rows=1 width=36)",
    ]
