"""DynamoDB in memory: what the service, the playground and a look with the AWS CLI need of it.

Anything else is refused by name. The engine has no threads, no HTTP, and no clock but the one it is given.
"""

from localdev.engine.client import Client as Client
from localdev.engine.errors import ApiError as ApiError
from localdev.engine.service import DynamoDb as DynamoDb
from localdev.engine.tables import REGION as REGION
