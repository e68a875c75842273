"""An in-memory DynamoDB with the operations that the service, the playground and the AWS CLI need here.

It rejects every other operation and parameter by name. It has no threads and no HTTP, and takes its clock as
an argument.
"""

from localdev.engine.client import Client as Client
from localdev.engine.errors import ApiError as ApiError
from localdev.engine.service import DynamoDb as DynamoDb
from localdev.engine.tables import REGION as REGION
