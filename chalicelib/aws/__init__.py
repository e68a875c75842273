"""Adapters for AWS: one module per AWS service or per kind of DynamoDB item."""
