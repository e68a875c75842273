"""A client that calls the engine as a boto3 client calls AWS, without HTTP, JSON and checks of types."""

import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from localdev.engine.errors import ApiError
from localdev.engine.items import Response
from localdev.engine.service import OPERATIONS
from localdev.engine.wire import Call

METHODS = {re.sub("(?<!^)(?=[A-Z])", "_", name).lower(): name for name in OPERATIONS}
"""The operations by the names that boto3 gives their methods."""

OK = {"HTTPStatusCode": 200, "RetryAttempts": 0}
BAD_REQUEST = {"HTTPStatusCode": 400, "RetryAttempts": 0}


class Client:
    """Of both services, `dynamodb` and `dynamodbstreams`: `client.put_item(TableName=…, Item=…)`.

    Raises ClientError with the code that AWS gives, and its response's further members. `call` can wrap the
    engine's, to fail before or after it: it is given the operation and the request, and raises ApiError.
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

        self.__dict__[method] = call  # Found at once the next time.
        return call


def client_error(error: ApiError, operation: str) -> ClientError:
    """Return the error as a boto3 client raises it."""
    response = {
        "Error": {"Code": error.code, "Message": error.message},
        "ResponseMetadata": BAD_REQUEST,
        **error.more,
    }
    return ClientError(response, operation)
