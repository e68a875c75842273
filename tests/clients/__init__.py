"""The clients that are to be copied."""
