-- What each trace began with and how long it took, to know one from another in a list.

alter table {s}.trace
    add column name text not null default '',
    add column begun_ns bigint,
    add column ended_ns bigint;
