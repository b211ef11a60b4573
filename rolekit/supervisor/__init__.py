"""One host's fleet: who may start, stop and replace instances, and what survives what.

    supervisor ──line (JSON lines)──────────────┐         one per app and home
        │                                       │
        └─warden─socket pair──> zygote ──fork──> instance, N times   zygote: no threads

An instance is in one of these states; only its slot (`slot.py`), in the supervisor, moves it:

    starting ──Ready──> ready ──stop asked──> stopping ──exit──> gone
       │                  │                                        ^
       └──────────────────┴──death, silence, recycle──> resting ───┘ (then a successor starts)

- The supervisor decides; the zygote only forks and reaps; an instance only reports.
- A death is believed when the pidfd says so, never from a number in a file. Only then is
  its work released in the database, and only then may its successor start, under a new
  owner number. An instance that is merely silent is killed first.
- Whoever dies takes those below along. The zygote sees that its supervisor is gone, and
  kills all below it; the kernel kills the instances with their zygote (PDEATHSIG). Instances
  adopt what loses its parent below them, and the zygote kills what an instance left behind,
  in whichever session that is. Its warden does so for the zygote, and it for its warden. A
  supervisor that finds its zygote gone starts another.
- Where there are no pidfds, no PDEATHSIG and nobody adopts (`linux.py` says what stands in),
  the zygote tells of deaths and passes signals on, each instance looks for its zygote, and
  what an instance left behind in another session lives on.
- The database may be away at any time. Nothing here needs it, except releasing, which waits.
"""
