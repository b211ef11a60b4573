"""Where state is kept: `base` is the contract, `postgres` and `memory` keep it.

`embedded` starts a private server, `migrate` brings a schema up to date.
"""
