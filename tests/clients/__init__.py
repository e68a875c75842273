"""The client libraries and the chat."""
