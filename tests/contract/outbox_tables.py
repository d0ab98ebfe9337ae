"""The outbox tables that services really have, as their own migrations made them. The library's own tests read them, too."""

__all__ = ["VARIANTS"]

VARIANTS = {
    "naive times, JSONB, server-side id": (
        "CREATE TABLE event_outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregate_id varchar(255) NOT NULL,"
        " aggregate_type varchar(100) NOT NULL, event_type varchar(255) NOT NULL, event_data jsonb NOT NULL,"
        " event_key varchar(255), topic varchar(255) NOT NULL, created_at timestamp NOT NULL DEFAULT now(),"
        " published_at timestamp, retry_count integer NOT NULL DEFAULT 0, last_error text);"
        " CREATE INDEX ix_event_outbox_unpublished_topic ON event_outbox (published_at, topic, created_at)"
        " WHERE published_at IS NULL; CREATE INDEX ix_event_outbox_topic ON event_outbox (topic)"
    ),
    "short columns, late columns": (
        "CREATE TABLE event_outbox (id uuid PRIMARY KEY, aggregate_id varchar(255) NOT NULL,"
        " aggregate_type varchar(100) NOT NULL, event_type varchar(200) NOT NULL, event_data json NOT NULL,"
        " topic varchar(200) NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz);"
        " ALTER TABLE event_outbox ADD event_key varchar(255), ADD retry_count integer NOT NULL DEFAULT 0,"
        " ADD last_error text;"
        " CREATE INDEX ix_event_outbox_unpublished ON event_outbox (published_at, created_at)"
        " WHERE published_at IS NULL"
    ),
}
