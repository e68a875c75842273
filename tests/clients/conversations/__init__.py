"""Programs that hold the same conversations with each client library, and print the results.

The only argument is a plan as JSON: `url`, `timing` and `tokens` for the clients, the `lines`, and the
`pairs` of players. The first player of a pair sends each line to the second, which sends it back. Before
that the first waits for `quiet_seconds`, and sends a message to each player in `refused`. The program prints,
per pair, the messages that the players `heard`, the messageIds of the `acks`, and how many connections each
`opened`. It also prints the codes of the `errors` and of the messages that were `refused`.
"""
