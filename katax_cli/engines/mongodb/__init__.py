"""MongoDB through pymongo."""

from katax_cli.engines.mongodb.engine import MongoEngine as MongoEngine
from katax_cli.engines.mongodb.engine import create as create
