"""A client with the interface of boto3's, which calls the engine without HTTP, JSON and type checks."""

import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from localdev.engine.errors import ApiError
from localdev.engine.items import Response
from localdev.engine.service import OPERATIONS
from localdev.engine.wire import Call

METHODS = {re.sub("(?<!^)(?=[A-Z])", "_", name).lower(): name for name in OPERATIONS}
"""The operations by boto3's method names."""

OK = {"HTTPStatusCode": 200, "RetryAttempts": 0}
BAD_REQUEST = {"HTTPStatusCode": 400, "RetryAttempts": 0}


class Client:
    """A client for both `dynamodb` and `dynamodbstreams`: `client.put_item(TableName=…, Item=…)`.

    Its methods raise ClientError with AWS's error code and the response's other members. `call` takes an
    operation and a request, and raises ApiError. It can wrap the engine's `call`, to inject failures.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Response]:
        operation = METHODS.get(method)
        if operation is None:
            raise AttributeError(f"the local DynamoDB has no {method}")

        def call(**request: Any) -> Response:
            try:
                response = self._call(operation, request)
            except ApiError as error:
                raise client_error(error, operation) from None
            return {**response, "ResponseMetadata": OK}

        self.__dict__[method] = call  # Caches the method, so that the next call skips __getattr__.
        return call


def client_error(error: ApiError, operation: str) -> ClientError:
    """Return the ClientError that a boto3 client would raise for the error."""
    response = {
        "Error": {"Code": error.code, "Message": error.message},
        "ResponseMetadata": BAD_REQUEST,
        **error.more,
    }
    return ClientError(response, operation)
