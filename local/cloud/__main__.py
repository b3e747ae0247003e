"""Serves the emulated cloud until it is told to stop."""

import asyncio
import os
import signal

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack import app
from ministack.core import lambda_runtime, tls

from local.cloud import accepted, database, functions, iam, network, secrets


async def _serve() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['GATEWAY_PORT']}"]
    config.certfile, config.keyfile = tls.resolve_tls_material()
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.2
    config.loglevel = "WARNING"
    # Not waited for: it would wait in turn for every client that keeps its connection.
    serving = asyncio.create_task(serve(app.app, config, shutdown_trigger=stopped.wait))
    await asyncio.wait({serving, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    lambda_runtime.reset()
    database.stop_servers()
    if not stopped.is_set():
        serving.result()
    os._exit(0)  # The event loop would wait for ministack's own threads, which never end.


if __name__ == "__main__":
    # Not ministack's main, which as root would take port 443 too.
    for part in (accepted, network, iam, database, secrets, functions):
        part.install()
    asyncio.run(_serve())
