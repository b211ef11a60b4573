"""rolekit and its peers, side by side in one run: `python -m benchmarks --help`.

figures     what the numbers mean: medians, ratios, bars
contest     runs contenders in turn, each run a process of its own
scenarios   one file a bar: who competes, over what, and what must be reached
own         rolekit's contender: an app as a user writes it
peers       one file a peer, set up as its documentation advises
servers     a private RabbitMQ, PostgreSQL and Redis, for as long as a run takes
meter       what contenders use to count and to report; needs nothing but Python
"""
