"""Runs the real use cases against simulated clients, API Gateway, tables and a stream, all with faults."""
