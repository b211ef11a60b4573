"""The dashboard: a running app at a glance, in a browser.

    cli/dashboard ── application ── Door ══ browser
                        │   │
                        │   └── Feed ── the supervisor's control API, once a second for all
                        └────── Console ── the database: sequences, dead letters, traces

It is a process of its own that stands beside the supervisor and knows no more than the
command line does; it can die, or hang, and no message notices.

drawing    which role sends what to which, in columns; pure
joined     several supervisors of one app as one; pure
feed       what the control API says, encoded once for all pages that look
door       who may look, who may change something
pages      the addresses
web/       the page: no framework, no build step, nothing from elsewhere
"""
