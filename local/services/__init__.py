"""The real services that the demo and the tests run against, without root and on free ports of the loopback interface.

Valkey (Redis), PostgreSQL, OpenStack Swift with its S3 API, and an SFTP host that stands in for the EC2 host. All data
lie under one directory, so a second start finds what the first one left. `Services` in `stack.py` starts all four.
"""

from local.services.process import ServiceError
from local.services.stack import Database, Services

__all__ = ["Database", "ServiceError", "Services"]
