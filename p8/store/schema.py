"""The tables, as they are in a new database. `migrations.py` says how older ones become so.

An entry's key is `session number << 32 | sequence number`: one integer, clustered by session, no second index.
Times are microseconds since 1970. The views at the end are for people with `datasette` or `sqlite-utils`.
"""

VERSION = 2  #: what `migrations.py` leads to

TABLES = """
CREATE TABLE streams (
    num INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    entries INTEGER NOT NULL DEFAULT 0,
    head BLOB NOT NULL DEFAULT x''
) STRICT;

CREATE TABLE sessions (
    num INTEGER PRIMARY KEY REFERENCES streams(num),
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL DEFAULT '',
    title_source TEXT NOT NULL DEFAULT '',
    project TEXT NOT NULL DEFAULT '',
    project_name TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'active',
    created INTEGER NOT NULL,
    last INTEGER NOT NULL,
    ended INTEGER,
    directory TEXT NOT NULL DEFAULT '',
    branch TEXT NOT NULL DEFAULT '',
    "commit" TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    messages INTEGER NOT NULL DEFAULT 0,
    commands INTEGER NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0,
    tokens_in INTEGER NOT NULL DEFAULT 0,
    tokens_out INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0,
    archived INTEGER NOT NULL DEFAULT 0,
    trashed INTEGER,
    tags TEXT NOT NULL DEFAULT '[]',
    parent TEXT,
    fork_seq INTEGER,
    packed INTEGER NOT NULL DEFAULT 0,
    meta TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX sessions_last ON sessions(last DESC, num DESC);
CREATE INDEX sessions_project ON sessions(project, last DESC, num DESC);
CREATE INDEX sessions_parent ON sessions(parent) WHERE parent IS NOT NULL;
CREATE INDEX sessions_active ON sessions(num) WHERE status = 'active';

CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    data ANY NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX entries_checkpoints ON entries(id) WHERE kind = 'checkpoint';

CREATE TABLE packed (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    data ANY NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX packed_checkpoints ON packed(id) WHERE kind = 'checkpoint';
CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, created INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE large (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

CREATE TABLE changes (
    id INTEGER PRIMARY KEY,
    num INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE TABLE journals (name TEXT PRIMARY KEY, folded INTEGER NOT NULL) STRICT;
CREATE TABLE damage (
    id INTEGER PRIMARY KEY,
    found INTEGER NOT NULL,
    segment TEXT NOT NULL,
    offset INTEGER NOT NULL,
    raw BLOB NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (segment, offset)
) STRICT;
CREATE TABLE leases (
    session TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    boot TEXT NOT NULL,
    host TEXT NOT NULL,
    heartbeat INTEGER NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    root TEXT NOT NULL DEFAULT '',
    root_commit TEXT NOT NULL DEFAULT '',
    remote TEXT NOT NULL DEFAULT '',
    created INTEGER NOT NULL,
    last INTEGER NOT NULL,
    meta TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX projects_commit ON projects(root_commit) WHERE root_commit <> '';
CREATE TABLE places (
    path TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    stamp TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE VIRTUAL TABLE search USING fts5(
    text, content='', columnsize=0, detail=none, tokenize="unicode61 remove_diacritics 2 tokenchars '_'"
);

CREATE VIEW messages AS
    SELECT s.id AS session, e.id & 4294967295 AS seq, datetime(e.time / 1000000, 'unixepoch') AS at, e.role,
           CASE typeof(e.data) WHEN 'text' THEN json_extract(e.data, '$.content') END AS content
    FROM entries e JOIN sessions s ON s.num = e.id >> 32 WHERE e.kind = 'message';
CREATE VIEW commands AS
    SELECT s.id AS session, e.id & 4294967295 AS seq, datetime(e.time / 1000000, 'unixepoch') AS at,
           json_extract(e.data, '$.command') AS command
    FROM entries e JOIN sessions s ON s.num = e.id >> 32 WHERE e.kind = 'command' AND typeof(e.data) = 'text';
CREATE VIEW executions AS
    SELECT s.id AS session, e.id & 4294967295 AS seq, datetime(e.time / 1000000, 'unixepoch') AS at,
           json_extract(e.data, '$.command') AS command, json_extract(e.data, '$.exit_code') AS exit_code,
           json_extract(e.data, '$.duration_s') AS duration_s, json_extract(e.data, '$.output') AS output
    FROM entries e JOIN sessions s ON s.num = e.id >> 32 WHERE e.kind = 'execution' AND typeof(e.data) = 'text';
"""
