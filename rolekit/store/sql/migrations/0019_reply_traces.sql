-- Which span answered, so that whoever follows goes on with its trace.

alter table {s}.reply add column trace text not null default '';
