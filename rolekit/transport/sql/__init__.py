"""SQL files, loaded by name."""
