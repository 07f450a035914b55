"""Arrays and arguments of every kind: checked, converted, located, and written to files."""
