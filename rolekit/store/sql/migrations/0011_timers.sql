-- When handlers that are called by time are due next: one row each, moved on by whoever fires.

create table {s}.timer (
    handler text primary key,
    schedule text not null,
    next_ms bigint not null,
    fired_ms bigint
);
comment on column {s}.timer.schedule is 'what the code says; another one begins anew';
comment on column {s}.timer.fired_ms is 'due time of the last firing';
