"""Private servers, for as long as a run takes; ended by the process ids it holds."""
