-- A dead letter may be answered: handlers of `DeadLetter[M]` are told when it is parked, and the
-- last of them that is done closes it. It keeps what the database said about it apart, since
-- that has values in it.
alter table {s}.dead_letter
    add column told smallint not null default 0,
    add column is_answered boolean not null default false,
    add column answers text not null default '',
    add column detail text not null default '',
    add column edited_at timestamptz;
comment on column {s}.dead_letter.told is 'handlers that were told of it and are not done';
comment on column {s}.dead_letter.answers is 'of a message that told a handler of a dead letter: the id of that';
comment on column {s}.dead_letter.detail is 'what the database said, with values';

create index dead_letter_answers on {s}.dead_letter (answers) where closed_at is null and answers <> '';
drop index {s}.dead_letter_open;
create index dead_letter_open on {s}.dead_letter (at_ms) where closed_at is null and told = 0;
