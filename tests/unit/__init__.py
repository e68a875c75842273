"""The rules and the AWS modules, without a network."""
