-- Where the line of those ends that come again for a slot: see model/rates.py.

alter table {s}.bucket add column line_ms double precision not null default 0;
