"""Order by key: partitions shared out, each key's messages one by one.

shares      which partitions this instance owns, and how they come and go
consumer    from their queues to the pipeline, key by key
lane        one key: what came, what waits in its list, which message holds it
turn        what a step of a keyed message says about its key
slots       how many run at once, a suspect alone
"""
