"""Where queues are: `base` is the contract, `postgres` and `memory` keep it."""
