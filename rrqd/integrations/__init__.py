"""Other people's systems, each behind an extra of its own; none is imported before it is asked for."""
