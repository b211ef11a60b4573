-- Rates over the whole fleet: when the next free slot of each bucket is.

create table {s}.bucket (
    name text primary key,
    free_ms double precision not null
) with (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
