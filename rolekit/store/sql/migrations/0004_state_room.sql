-- A state is written again and again: room on its page keeps the new version there, where the
-- next reader prunes the old ones, and vacuum comes before scans get long.
alter table {s}.state set (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
