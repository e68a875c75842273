"""What the service does: its rules and use cases, without I/O. Imports nothing of chalicelib.aws."""
