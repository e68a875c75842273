"""Onto AWS: what `make deploy` does around `chalice deploy`. None of it is shipped."""

from deployment.stream import find_stream as find_stream
