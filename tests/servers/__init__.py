"""Real servers for tests, each private to the run: free ports on loopback, data in a folder of the caller's.

    server = ValkeyServer(folder)
    await server.start()    # returns when it answers
    await server.kill()     # SIGKILL, data kept; start() goes on with it, on the same port
    await server.stop()     # cleanly
    server.url

None outlives the test run, however that ends (tests/servers/process.py). `missing()` says why one cannot run here.
"""

from tests.servers.exim import EximServer
from tests.servers.mongo import MongoServer
from tests.servers.postfix import PostfixServer
from tests.servers.process import ServerDidNotStart
from tests.servers.rabbit import RabbitServer
from tests.servers.valkey import ValkeyServer

__all__ = ["EximServer", "MongoServer", "PostfixServer", "RabbitServer", "ServerDidNotStart", "ValkeyServer"]
