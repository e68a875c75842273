"""The service's rules and use cases, without I/O. Nothing here imports chalicelib.aws."""
