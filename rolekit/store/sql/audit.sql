-- note: Keep what an operator did, and forget what is too old.
with old as (
    delete from {s}.audit where n <= (select max(n) + 1 - $5 from {s}.audit)
)
insert into {s}.audit (who, act, what, outcome) values ($1, $2, $3, $4);

-- newest: List what operators did, the newest first.
select at, who, act, what, outcome from {s}.audit order by n desc limit $1;
