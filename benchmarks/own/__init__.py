"""rolekit as a contender: an app as a user writes it, in one process."""
