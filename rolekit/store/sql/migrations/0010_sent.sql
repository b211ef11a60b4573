-- What was sent and confirmed, kept if asked for, and dropped by the day. With it, on which days
-- the app ran: days of the inbox, and of what was sent, are dropped by those.

create table {s}.sent (
    day int not null,
    n bigserial not null,
    at_ms bigint not null,
    queues text[] not null,
    ids uuid[] not null,
    generations int[] not null,
    births_ms bigint[] not null,
    heads bytea[] not null,
    bodies bytea[] not null,
    primary key (n, day)
) partition by range (day);
comment on column {s}.sent.at_ms is 'when the broker confirmed it';

create table {s}.running_day (day int primary key);
comment on table {s}.running_day is 'days, in UTC, on which a relay of the app ran';
