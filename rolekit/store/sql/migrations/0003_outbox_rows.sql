-- One row of the outbox holds what a commit sends together, instead of one row a packet: two
-- index entries and a deletion for each packet were the larger part of what a commit cost.

-- What is being committed into it now is waited for, or it would be dropped with the table.
lock table {s}.outbox in access exclusive mode;

create table {s}.outbox_rows (
    n bigserial primary key,
    owner bigint not null,
    queues text[] not null,
    ids uuid[] not null,
    generations int[] not null,
    births_ms bigint[] not null,
    heads bytea[] not null,
    bodies bytea[] not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Rows live for milliseconds: compressing them is work for nothing.
alter table {s}.outbox_rows alter column heads set storage external;
alter table {s}.outbox_rows alter column bodies set storage external;

insert into {s}.outbox_rows (n, owner, queues, ids, generations, births_ms, heads, bodies)
select n, owner, array[queue], array[id], array[generation], array[birth_ms], array[head], array[body]
from {s}.outbox;
select setval(pg_get_serial_sequence('{s}.outbox_rows', 'n'), 
    (select last_value from {s}.outbox_n_seq));

drop table {s}.outbox;
alter table {s}.outbox_rows rename to outbox;
create index outbox_owner on {s}.outbox (owner);
