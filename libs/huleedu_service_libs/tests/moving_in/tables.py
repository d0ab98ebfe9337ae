"""The outbox tables that services have: those of the outbox tests, and the rest of what their own migrations made."""

from tests.contract.outbox_tables import VARIANTS as OTHERS

_COLUMNS = (
    " aggregate_id varchar(255) NOT NULL, aggregate_type varchar(100) NOT NULL, event_type varchar(255) NOT NULL,"
    " event_data json NOT NULL, event_key varchar(255), topic varchar(255) NOT NULL,"
    " created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz,"
    " retry_count integer NOT NULL DEFAULT 0, last_error text"
)

VARIANTS = {
    **OTHERS,
    "the usual one": (
        f"CREATE TABLE event_outbox (id uuid PRIMARY KEY, {_COLUMNS});"
        " CREATE INDEX ix_event_outbox_unpublished ON event_outbox (published_at, created_at) WHERE published_at IS NULL;"
        " CREATE INDEX ix_event_outbox_aggregate ON event_outbox (aggregate_type, aggregate_id);"
        " CREATE INDEX ix_event_outbox_event_type ON event_outbox (event_type)"
    ),
    "index by topic": (
        f"CREATE TABLE event_outbox (id uuid PRIMARY KEY, {_COLUMNS});"
        " CREATE INDEX ix_event_outbox_unpublished_topic ON event_outbox (published_at, topic, created_at)"
        " WHERE published_at IS NULL; CREATE INDEX ix_event_outbox_topic ON event_outbox (topic)"
    ),
    "id by the server": (
        f"CREATE TABLE event_outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {_COLUMNS});"
        " CREATE INDEX ix_event_outbox_unpublished ON event_outbox (published_at, created_at) WHERE published_at IS NULL"
    ),
}
