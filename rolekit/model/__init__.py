"""The model: pure data and decisions. No await, no clock, no I/O.

Time and randomness come in as arguments.
"""
