"""Redis (and what speaks its protocol) through redis-py."""

from katax_cli.engines.redis.engine import RedisEngine as RedisEngine
from katax_cli.engines.redis.engine import create as create
