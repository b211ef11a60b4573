-- Order by key: who owns which partition of a role's keys, which keys are held, what waits.

create table {s}.keyed_role (
    role text primary key,
    partitions int not null
);

create table {s}.partition (
    role text not null,
    n int not null,
    epoch bigint not null default 0,
    owner bigint,
    primary key (role, n)
) with (fillfactor = 50);
comment on column {s}.partition.epoch is 'raised by each new owner; commits under an older one are refused';

create table {s}.member (
    owner bigint not null,
    role text not null,
    held_since timestamptz not null default now(),
    lease_until timestamptz not null,
    primary key (owner, role)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table {s}.member is 'instances of roles with keys, each renewed by itself';

create table {s}.held_key (
    role text not null,
    key text not null,
    partition int not null,
    id uuid not null,
    since timestamptz not null default now(),
    primary key (role, key)
);
create index held_key_partition on {s}.held_key (role, partition);
comment on column {s}.held_key.id is 'the message that failed, and whose next generation is waited for';

create table {s}.waiting_list (
    n bigserial primary key,
    role text not null,
    key text not null,
    partition int not null,
    queue text not null,
    id uuid not null,
    generation int not null,
    birth_ms bigint not null,
    head bytea not null,
    body bytea not null,
    unique (id, generation)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index waiting_list_key on {s}.waiting_list (role, key, n);
create index waiting_list_partition on {s}.waiting_list (role, partition);
comment on table {s}.waiting_list is 'messages behind one that failed and holds their key';

-- Of queues in Postgres: what has one reader at a time.
create table {s}.queue_epoch (
    queue text primary key,
    epoch bigint not null
) with (fillfactor = 50);
