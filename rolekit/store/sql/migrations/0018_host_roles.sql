-- Which roles run on a host, so that hosts which scale one by its backlog share it.

alter table {s}.host add column roles text[] not null default '{}';
