"""Answers boto3's calls in this process, as soon as boto3 has validated their parameters.

This skips endpoint rules, serialization, signing and HTTP, which take longer than the answer itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

Answer = Callable[[Mapping[str, Any]], tuple[int, dict[str, Any]]]
"""Takes a call's parameters. Returns the HTTP status and the response as boto3 would parse it."""

_validator = ParamValidator()


def attach(session: boto3.Session, service: str, answer_for: Callable[[Any, str], Answer | None]) -> None:
    """Make every client of the service that the session creates from now on use `answer_for`.

    `answer_for` takes a client and an operation. If it returns None, the call goes over HTTP.
    """

    class Shortcut:
        def _make_api_call(self: Any, operation: str, given: Mapping[str, Any]) -> Any:
            answer = answer_for(self, operation)
            if answer is None:
                return super()._make_api_call(operation, given)  # type: ignore[misc]
            model = self._service_model.operation_model(operation)
            parameters = self._emit_api_params(given, model, {})
            report = _validator.validate(parameters, model.input_shape)
            if report.has_errors():
                raise ParamValidationError(report=report.generate_report())
            status, response = answer(parameters)
            metadata = {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}
            response = {**response, "ResponseMetadata": metadata}
            if status >= 300:
                raise self.exceptions.from_code(response["Error"]["Code"])(response, operation)
            return response

    def shorten(base_classes: list[type], **_: Any) -> None:
        base_classes.insert(0, Shortcut)

    session.events.register(f"creating-client-class.{service}", shorten)
