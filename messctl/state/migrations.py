"""The store's tables, version by version, and how a file of an older messctl is migrated."""

from __future__ import annotations

import struct

MIGRATIONS = (
    """
    CREATE TABLE router (
        id INTEGER PRIMARY KEY CHECK (id = 1), decided INTEGER NOT NULL, queue REAL NOT NULL, encoder TEXT NOT NULL);
    CREATE TABLE models (
        name TEXT PRIMARY KEY, mean_cost REAL NOT NULL, cost_count INTEGER NOT NULL,
        bias REAL NOT NULL, steps INTEGER NOT NULL, weight BLOB NOT NULL);
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, asked_at REAL NOT NULL,
        prompt TEXT NOT NULL, policy TEXT NOT NULL, request_number INTEGER NOT NULL, served TEXT NOT NULL,
        explored INTEGER NOT NULL, forced INTEGER NOT NULL, gradable INTEGER NOT NULL, alpha REAL NOT NULL,
        p_explore REAL NOT NULL, propensity REAL, queue REAL NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL);
    CREATE TABLE answers (
        request INTEGER NOT NULL REFERENCES requests (id) ON DELETE CASCADE, model TEXT NOT NULL, answer TEXT,
        cost REAL, latency_s REAL, tokens_in INTEGER, tokens_out INTEGER, satisfied REAL,
        PRIMARY KEY (request, model)) WITHOUT ROWID;
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request INTEGER NOT NULL UNIQUE REFERENCES requests (id) ON DELETE CASCADE,
        satisfied REAL NOT NULL, given_at REAL NOT NULL, corrected_at REAL);
    """,
    "ALTER TABLE models ADD COLUMN cost_source TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE policies (name TEXT PRIMARY KEY, version INTEGER NOT NULL, encoder TEXT NOT NULL);
    INSERT INTO policies SELECT 'messplus', 1, encoder FROM router;
    CREATE TABLE arrays (
        policy TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL, cost_source TEXT, type TEXT NOT NULL,
        shape TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (policy, model, name));
    INSERT INTO arrays
        SELECT 'messplus', name, 'weight', NULL, '<f8', length(weight) / 8, weight FROM models WHERE length(weight) > 0;
    INSERT INTO arrays
        SELECT 'messplus', name, 'bias', NULL, '<f8', '', packed(bias) FROM models WHERE length(weight) > 0;
    INSERT INTO arrays
        SELECT 'messplus', name, 'steps', NULL, '<i8', '', packed(steps) FROM models WHERE length(weight) > 0;
    ALTER TABLE models RENAME TO old_models;
    CREATE TABLE models (
        name TEXT PRIMARY KEY, mean_cost REAL NOT NULL, cost_count INTEGER NOT NULL, cost_source TEXT NOT NULL);
    INSERT INTO models SELECT name, mean_cost, cost_count, cost_source FROM old_models;
    DROP TABLE old_models;
    ALTER TABLE router RENAME TO old_router;
    CREATE TABLE router (
        id INTEGER PRIMARY KEY CHECK (id = 1), decided INTEGER NOT NULL, queue REAL NOT NULL, balance REAL NOT NULL);
    INSERT INTO router SELECT id, decided, queue, (
        SELECT total(feedback.satisfied) - total(alpha) FROM feedback JOIN requests ON requests.id = request)
        FROM old_router;
    DROP TABLE old_router;
    """,
    """
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request INTEGER NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        model TEXT NOT NULL, reason TEXT NOT NULL, failed_at REAL NOT NULL);
    CREATE INDEX attempts_of_request ON attempts (request);
    CREATE TABLE outages (
        model TEXT PRIMARY KEY, place TEXT NOT NULL, failures INTEGER NOT NULL, until REAL NOT NULL);
    """,
    "ALTER TABLE answers ADD COLUMN cost_quality TEXT",
    """
    ALTER TABLE requests ADD COLUMN characters INTEGER;
    CREATE INDEX answers_of_model ON answers (model, request);
    """,
    """
    ALTER TABLE attempts ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
    UPDATE attempts SET refused = 1
        WHERE reason LIKE '%: the prompt has % and the context holds %' OR reason LIKE '%: the conversation leaves %'
        OR reason LIKE '%refuses the request with %';
    """,
    """
    ALTER TABLE outages ADD COLUMN since REAL NOT NULL DEFAULT 0;
    UPDATE outages SET since = max(0.0, until - 300.0);  -- no outage was longer than five minutes
    """,
    """
    ALTER TABLE answers ADD COLUMN finish TEXT;
    ALTER TABLE answers ADD COLUMN thinking TEXT;
    ALTER TABLE attempts ADD COLUMN outcome TEXT;
    """,
    """
    CREATE TABLE request_sums (
        policy TEXT NOT NULL, forced INTEGER NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (policy, forced));
    CREATE TABLE feedback_sums (
        policy TEXT PRIMARY KEY, judged INTEGER NOT NULL, satisfied REAL NOT NULL, alpha REAL NOT NULL);
    CREATE TABLE served_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, requests INTEGER NOT NULL,
        pending INTEGER NOT NULL, explored INTEGER NOT NULL, forced INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL, PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE answer_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, answers INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, measured INTEGER NOT NULL, cost REAL NOT NULL,
        PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE empty_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, answers INTEGER NOT NULL,
        cost REAL NOT NULL, PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE attempt_sums (
        model TEXT NOT NULL, refused INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
        failed_at REAL NOT NULL, PRIMARY KEY (model, refused));
    ALTER TABLE requests ADD COLUMN others INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE checkpoints (
        last INTEGER PRIMARY KEY, queue REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL);
    CREATE TABLE steps (last INTEGER PRIMARY KEY, packed BLOB NOT NULL);
    """,
    """
    DROP TABLE checkpoints;
    CREATE TABLE checkpoints (first INTEGER PRIMARY KEY, packed BLOB NOT NULL);
    """,
    "ALTER TABLE requests ADD COLUMN asked TEXT",
    """
    CREATE TABLE remarks (
        request INTEGER PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE, comment TEXT, source TEXT);
    """,
    """
    CREATE TABLE pruned (
        id INTEGER PRIMARY KEY CHECK (id = 1), looked_at REAL NOT NULL, until REAL NOT NULL, decided INTEGER NOT NULL,
        place INTEGER NOT NULL, given_at REAL NOT NULL, judged INTEGER NOT NULL, satisfied REAL NOT NULL,
        alpha REAL NOT NULL, queue REAL NOT NULL);
    CREATE TABLE pruned_feedback (
        id INTEGER PRIMARY KEY, alpha REAL NOT NULL, satisfied REAL NOT NULL, given_at REAL NOT NULL);
    CREATE TABLE pruned_lengths (
        model TEXT NOT NULL, request INTEGER NOT NULL, tokens_in INTEGER, characters INTEGER,
        PRIMARY KEY (model, request));
    CREATE TABLE pruned_request_sums (
        policy TEXT NOT NULL, forced INTEGER NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (policy, forced));
    CREATE TABLE pruned_feedback_sums (
        policy TEXT PRIMARY KEY, judged INTEGER NOT NULL, satisfied REAL NOT NULL, alpha REAL NOT NULL);
    CREATE TABLE pruned_served_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, requests INTEGER NOT NULL,
        pending INTEGER NOT NULL, explored INTEGER NOT NULL, forced INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL, PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE pruned_answer_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, answers INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, measured INTEGER NOT NULL, cost REAL NOT NULL,
        PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE pruned_empty_sums (
        model TEXT NOT NULL, cost_unit TEXT NOT NULL, meter TEXT NOT NULL, answers INTEGER NOT NULL,
        cost REAL NOT NULL, PRIMARY KEY (model, cost_unit, meter));
    CREATE TABLE pruned_attempt_sums (
        model TEXT NOT NULL, refused INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
        failed_at REAL NOT NULL, PRIMARY KEY (model, refused));
    """,
    "CREATE TABLE copying (id INTEGER PRIMARY KEY CHECK (id = 1), source TEXT NOT NULL)",
    "CREATE INDEX feedback_corrected ON feedback (corrected_at) WHERE corrected_at IS NOT NULL",
    """
    ALTER TABLE router ADD COLUMN saves INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE policies ADD COLUMN begun TEXT NOT NULL DEFAULT '';
    ALTER TABLE arrays ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE pieces (
        policy TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL, piece INTEGER NOT NULL, cost_source TEXT,
        type TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL, saved INTEGER NOT NULL,
        PRIMARY KEY (policy, model, name, piece));
    WITH RECURSIVE numbers (number) AS (
        SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE 8192 * number < (SELECT max(length(data)) FROM arrays))
    INSERT INTO pieces
        SELECT policy, model, name, number, cost_source, type, shape,
            CASE WHEN length(data) <= 8192 THEN data ELSE substr(data, 1 + 8192 * number, 8192) END, saved
        FROM arrays JOIN numbers ON number = 0 OR 8192 * number < length(data);
    DROP TABLE arrays;
    ALTER TABLE pieces RENAME TO arrays;
    """,
    "DELETE FROM steps",  # they are packed in fewer bytes
    """
    CREATE TABLE lengths (model TEXT PRIMARY KEY, tokens REAL NOT NULL, characters REAL NOT NULL);
    INSERT INTO lengths
        SELECT model, sum(1.0 * tokens_in), sum(1.0 * characters) FROM (
            SELECT model, tokens_in, characters, row_number() OVER (PARTITION BY model ORDER BY request DESC) AS place
            FROM (
                SELECT model, request, tokens_in, characters FROM answers JOIN requests ON requests.id = request
                UNION ALL SELECT model, request, tokens_in, characters FROM pruned_lengths
            ) AS questions
            WHERE tokens_in > 0 AND characters > 0
        ) AS latest
        WHERE place <= 50 GROUP BY model;
    DROP TABLE pruned_lengths;
    DROP INDEX answers_of_model;
    """,
)
"""One script per version: the n-th brings a file from version n − 1 to n. Append only.

`packed` turns a number into the BLOB of an array without dimensions; see `policy_arrays`.
"""


SUMS = 10
"""The version that brought the tables which are kept up to date with the log."""
COPIES = 16
"""The version that can say that a state is a begun copy."""
KEPT = 19
"""The last version that changed what these hold: they are computed for an older file."""


def packed(number: float) -> bytes:
    """Return a number as the BLOB of an array without dimensions."""
    return struct.pack("<q" if isinstance(number, int) else "<d", number)
