"""The service: all code that runs on Lambda, except app.py."""
