"""Runs the real handlers against simulated clients, API Gateway, tables and a stream, all with faults."""
