"""The documents, the project's structure and its tools."""
