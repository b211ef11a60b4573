"""What operators see: log lines now; traces and metrics observe the same events later."""
