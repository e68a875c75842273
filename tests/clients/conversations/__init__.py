"""Programs that hold the same conversations with each client library, and print the results.

Each is given a plan as JSON in its one argument: `url`, `timing` and `tokens` for the clients, `lines` to
say, and the `pairs` of players to say them. The first of a pair sends each line to the second, which sends it
back. Before that it is quiet for `quiet_seconds`, and sends something to everybody in `refused`. For each
pair is printed what its players `heard`, the messageIds of the `acks`, how often each `opened` a
connection, and the codes of `errors` and of what was `refused`.
"""
