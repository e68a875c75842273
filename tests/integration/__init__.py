"""The stores and the whole path over each DynamoDB engine."""
