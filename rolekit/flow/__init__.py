"""How messages travel: one file per step, `pipeline` first.

    delivery -> pipeline: decode, admit -> call: run the handler -> outputs: name and place
    what it gave -> commit (recorded step) or forward (direct step) -> settle

States of one generation of a message, and who may move it:

    waiting    in a queue, the outbox or the schedule; the transport or relay moves it on
    in hand    delivered to an instance, which may believe it has it until it settles or dies
    done, retried, dead    the inbox row says so; whoever inserts it decides, once

States of a sequence: open (its cursor waits for the next position), ready (a token is on
its way to the gather), finished, failed. Only a commit that holds the row's lock moves it.
"""
