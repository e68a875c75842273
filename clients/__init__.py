"""Clients that keep the protocol. Each is one file to copy into a project of your own."""
