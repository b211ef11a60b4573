-- Everything one app keeps in Postgres. `{s}` is the app's schema.
-- Times are milliseconds since 1970 in UTC; a day is such a time divided by 86,400,000.
-- A path is the indexes of a position, four bytes each, big end first: bytea then sorts as paths do.

create table {s}.inbox (
    id uuid not null,
    generation int not null,
    day int not null,
    outcome smallint not null,
    primary key (id, generation, day)
) partition by range (day);

create table {s}.queue_name (name text primary key);

create table {s}.queue (
    n bigserial primary key,
    queue text not null,
    id uuid not null,
    generation int not null,
    birth_ms bigint not null,
    head bytea not null,
    body bytea not null,
    owner bigint,
    redelivered boolean not null default false,
    is_suspect boolean not null default false,
    runs_alone boolean not null default false,
    crashed smallint not null default 0
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_scale_factor = 0.5
);
comment on column {s}.queue.crashed is 'instances that died while they ran this message alone';
create index queue_waiting on {s}.queue (queue, n) where owner is null;
create index queue_held on {s}.queue (owner) where owner is not null;

create table {s}.outbox (
    n bigserial primary key,
    owner bigint not null,
    queue text not null,
    id uuid not null,
    generation int not null,
    birth_ms bigint not null,
    head bytea not null,
    body bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index outbox_owner on {s}.outbox (owner);

create table {s}.schedule (
    n bigserial primary key,
    due_ms bigint not null,
    queue text not null,
    id uuid not null,
    generation int not null,
    head bytea not null,
    body bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index schedule_due on {s}.schedule (due_ms);

create table {s}.sequence (
    id uuid primary key,
    gather text not null,
    next bytea not null,
    totals bytea not null,
    released bigint not null default 0,
    emitted bigint not null default 0,
    sealed bytea,
    state smallint not null default 0,
    is_ready boolean not null default false,
    tokens int not null default 0,
    is_expired boolean not null default false,
    waits boolean not null,
    age_ms int not null,
    deadline_ms bigint not null,
    token_head bytea not null,
    source_queue text not null,
    source_id uuid not null,
    source_generation int not null,
    source_birth_ms bigint not null,
    source_head bytea not null,
    source_body bytea not null,
    opened_at timestamptz not null default now()
) with (fillfactor = 60);
create index sequence_deadline on {s}.sequence (deadline_ms) where state = 0 and not is_expired and not waits;
comment on column {s}.sequence.tokens is 'how often its gather was told to release; names the tokens';
comment on column {s}.sequence.state is '0 open, 1 finished, 2 failed';

create table {s}.part (
    sequence uuid not null,
    path bytea not null,
    closed_by smallint not null,
    total int,
    type text not null,
    type_version int not null,
    codec text not null,
    body bytea not null,
    detail text not null,
    dead_letter text not null,
    primary key (sequence, path)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on column {s}.part.closed_by is '0 part, 1 dropped, 2 failed, 3 split';

create table {s}.reply (
    root uuid not null,
    n bigserial not null,
    id uuid not null,
    type text not null,
    type_version int not null,
    codec text not null,
    body bytea not null,
    is_failure boolean not null,
    at timestamptz not null default now(),
    primary key (root, n)
);
create index reply_at on {s}.reply (at);

create table {s}.state (
    scope text not null,
    name text not null,
    key text not null,
    version bigint not null,
    body bytea not null,
    changed_at timestamptz not null default now(),
    primary key (scope, name, key)
);

create table {s}.once (
    id uuid not null,
    name text not null,
    value bytea not null,
    at timestamptz not null default now(),
    primary key (id, name)
);
create index once_at on {s}.once (at);

create table {s}.blob (
    id text primary key,
    size_bytes bigint not null,
    upload uuid not null,
    saved_at timestamptz not null default now()
);
create table {s}.blob_chunk (
    upload uuid not null,
    n int not null,
    data bytea not null,
    primary key (upload, n)
);

create table {s}.dead_letter (
    id text primary key,
    queue text not null,
    message_id uuid not null,
    generation int not null,
    birth_ms bigint not null,
    head bytea not null,
    body bytea not null,
    handler text not null,
    type text not null,
    reason text not null,
    traceback text not null,
    attempts int not null,
    at_ms bigint not null,
    is_forced boolean not null,
    closed_at timestamptz,
    closed_how text
);
create index dead_letter_open on {s}.dead_letter (at_ms) where closed_at is null;

create table {s}.idempotency (
    key uuid primary key,
    body_hash uuid not null,
    status int,
    media_type text,
    headers text[],
    body bytea,
    at timestamptz not null default now()
);
create index idempotency_at on {s}.idempotency (at);

create table {s}.host (
    epoch bigserial primary key,
    name text not null,
    pid int not null,
    started text not null,
    held_since timestamptz not null default now(),
    lease_until timestamptz not null
);
