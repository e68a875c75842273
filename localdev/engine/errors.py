"""The error responses of DynamoDB's API."""

from typing import Any


class ApiError(Exception):
    """An error response. `more` has its other members, such as the item that failed a condition."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.more = more


class Invalid(ApiError):
    """A ValidationException."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


class NotFound(ApiError):
    """A ResourceNotFoundException."""

    def __init__(self, message: str = "Requested resource not found") -> None:
        super().__init__("ResourceNotFoundException", message)
