-- Version 1. Never edited once released: a change is another file in MIGRATIONS.

CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    json TEXT NOT NULL
) STRICT;

-- AUTOINCREMENT: whoever follows the events by id must never meet an id twice.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wall_ms INTEGER NOT NULL,
    boot_ms INTEGER NOT NULL,
    boot TEXT NOT NULL,
    kind TEXT NOT NULL,
    json TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_kind ON events (kind, id);

-- `row` rises in the order of arrival, which a clock that jumps does not.
CREATE TABLE requests (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    wall_ms INTEGER NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    first_token_ms INTEGER,
    total_ms INTEGER NOT NULL,
    finish TEXT NOT NULL,
    status INTEGER NOT NULL,
    canary INTEGER NOT NULL,
    epoch INTEGER
) STRICT;
CREATE INDEX requests_by_time ON requests (wall_ms);

-- The views spell an event's fields as columns; nothing is stored twice.

CREATE VIEW gates AS
SELECT id, wall_ms, boot_ms, boot,
    json ->> 'gate' AS gate,
    json ->> 'state' AS state,
    json ->> 'evidence' AS evidence,
    json ->> 'remedy' AS remedy
FROM events WHERE kind = 'gate';

CREATE VIEW faults AS
SELECT id, wall_ms, boot_ms, boot,
    CASE kind WHEN 'fault_raised' THEN 'raised' ELSE 'cleared' END AS change,
    json ->> 'fault' AS fault,
    json ->> 'of' AS subject,
    json ->> 'since_wall_ms' AS since_wall_ms,
    json ->> 'count' AS count,
    json ->> 'evidence' AS evidence,
    json ->> 'rung' AS rung,
    json ->> 'remedy' AS remedy
FROM events WHERE kind IN ('fault_raised', 'fault_cleared');

CREATE VIEW drifts AS
SELECT id, wall_ms, boot_ms, boot,
    kind AS change,
    json ->> 'invariant' AS invariant,
    json ->> 'found' AS found,
    json ->> 'wanted' AS wanted,
    json ->> 'after_ms' AS after_ms
FROM events WHERE kind IN ('drift', 'held');

CREATE VIEW actions AS
SELECT id, wall_ms, boot_ms, boot, json ->> 'action' AS action
FROM events WHERE kind = 'action';

CREATE VIEW phases AS
SELECT id, wall_ms, boot_ms, boot,
    json ->> 'epoch' AS epoch,
    json ->> 'from' AS left,
    json ->> 'to' AS entered,
    json ->> 'cause' AS cause
FROM events WHERE kind = 'epoch';

-- One row an epoch and boot: an epoch lasts until no rank of it runs, and its cause is the last one
-- told. Times within a boot are boot_ms, since wall_ms jumps. With max(id), SQLite takes a group's
-- other columns from the row that has the maximum.
CREATE VIEW epochs AS
WITH spans AS (
    SELECT epoch, boot,
        min(wall_ms) AS wall_ms,
        min(boot_ms) AS started_boot_ms,
        min(CASE WHEN entered = 'serving' THEN boot_ms END) AS serving_boot_ms,
        max(CASE WHEN entered IN ('idle', 'backoff', 'held', 'drained') THEN boot_ms END)
            AS ended_boot_ms,
        min(id) AS first_id
    FROM phases GROUP BY boot, epoch
), causes AS (
    SELECT epoch, boot, cause, max(id) FROM phases WHERE cause IS NOT NULL GROUP BY boot, epoch
)
SELECT spans.epoch, spans.boot, wall_ms, started_boot_ms, serving_boot_ms, ended_boot_ms,
    ended_boot_ms - started_boot_ms AS duration_ms, cause, first_id
FROM spans LEFT JOIN causes ON causes.boot = spans.boot AND causes.epoch = spans.epoch;

-- One row a boot in which a supervisor ran.
CREATE VIEW boots AS
WITH spans AS (
    SELECT boot,
        min(wall_ms) AS first_wall_ms,
        max(wall_ms) AS last_wall_ms,
        max(boot_ms) AS last_boot_ms,
        count(CASE WHEN kind = 'started' THEN 1 END) AS starts,
        count(*) AS events,
        min(id) AS first_id
    FROM events GROUP BY boot
), versions AS (
    SELECT boot, json ->> 'version' AS version, max(id)
    FROM events WHERE kind = 'started' GROUP BY boot
)
SELECT spans.boot, first_wall_ms, last_wall_ms, last_boot_ms, starts, events, version, first_id
FROM spans LEFT JOIN versions ON versions.boot = spans.boot;

CREATE VIEW orders AS
SELECT id, wall_ms, boot_ms, boot, json ->> 'order' AS text
FROM events WHERE kind = 'order';

CREATE VIEW reboots AS
SELECT id, wall_ms, boot_ms, boot, json ->> 'phase' AS phase, json ->> 'cause' AS cause
FROM events WHERE kind = 'reboot';

CREATE VIEW leaks AS
SELECT id, wall_ms, boot_ms, boot,
    json ->> 'verdict' AS verdict,
    json ->> 'unexplained_bytes' AS unexplained_bytes
FROM events WHERE kind = 'leak';

CREATE VIEW canaries AS
SELECT id, wall_ms, boot_ms, boot, json ->> 'passed' AS passed, json ->> 'detail' AS detail
FROM events WHERE kind = 'canary';
