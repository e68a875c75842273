"""What the protocol is, for programs. A developer's tool: none of it is shipped."""
