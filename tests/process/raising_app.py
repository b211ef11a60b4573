"""An app that cannot be imported."""

raise RuntimeError("no configuration")
