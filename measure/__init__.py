"""Measures the service by load tests and call budgets, and models latency and cost. Not shipped to Lambda."""
