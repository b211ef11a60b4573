-- Sequences whose parts are taken as they come, streams, and what an operator asks about both.

alter table {s}.sequence
    add column is_ordered boolean not null default true,
    add column is_stream boolean not null default false,
    add column runs bigint not null default 0,
    add column sealed_paths bytea[],
    add column moved_at timestamptz not null default now(),
    add column late bigint not null default 0,
    add column repeated bigint not null default 0,
    add column conflicting bigint not null default 0,
    alter column tokens type bigint;
comment on column {s}.sequence.runs is 'releases so far; where parts are taken as they come, this is what a release compares';
comment on column {s}.sequence.late is 'parts that came when their position had been released';
comment on column {s}.sequence.repeated is 'parts that came when their position was closed';
comment on column {s}.sequence.conflicting is 'of the repeated ones: those that said something else';
create index sequence_open on {s}.sequence (moved_at) where state = 0;

alter table {s}.schedule add column why text not null default '';
comment on column {s}.schedule.why is 'what is known of the last attempt, for an operator';

create table {s}.taken (
    sequence uuid not null,
    path bytea not null,
    total int,
    primary key (sequence, path)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table {s}.taken is 'positions beyond the cursor that were handed over already, where order does not matter';
comment on column {s}.taken.total is 'null for what holds no children, -1 for a split that goes on';

create table {s}.stream (
    sequence uuid primary key,
    name text not null,
    gather text not null,
    next bigint not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on column {s}.stream.next is 'the position that the next message gets';

create table {s}.split (
    id uuid primary key,
    origin int not null,
    generation int not null,
    sequence uuid,
    next bigint not null,
    places bigint not null,
    digest bytea not null,
    at timestamptz not null default now()
);
comment on table {s}.split is 'how far splits have come that take more than one commit';
comment on column {s}.split.origin is 'the generation that began it, which names its parts';
comment on column {s}.split.places is 'positions that its parts have taken';
