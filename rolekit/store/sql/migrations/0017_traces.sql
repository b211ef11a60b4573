-- Recent traces, to look at without a collector. What a crash of the server takes is no loss,
-- so nothing of it is written ahead.

create unlogged table {s}.trace (
    id uuid primary key,
    n bigserial not null,
    at timestamptz not null default now(),
    grade smallint not null default 0,
    spans int not null default 0
);
create index trace_n on {s}.trace (n);
comment on column {s}.trace.grade is '0 as it should be, 1 slow, 2 something failed';

create unlogged table {s}.span (
    trace uuid not null,
    id text not null,
    message uuid,
    ended boolean not null,
    data bytea not null,
    primary key (trace, id)
);
create index span_message on {s}.span (message) where message is not null;
