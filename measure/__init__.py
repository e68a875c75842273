"""How fast, how many, what it costs: load tests, counted budgets, a model. Never shipped to Lambda."""
