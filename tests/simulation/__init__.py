"""A world of clients, a gateway, tables and a stream around the real handlers, in which everything fails."""
