"""The stores and the whole service on each DynamoDB engine."""
