"""Serves the emulated cloud until it is told to stop."""

import asyncio
import os
import signal

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.core import lambda_runtime, tls

from local.ministack_patches import (
    access,
    cloudformation,
    cloudwatch,
    drift,
    ec2,
    iam,
    invocations,
    lambda_functions,
    limits,
    logs,
    network,
    no_op_resources,
    rds,
    refusals,
    secrets_manager,
)
from local.ministack_patches.gate import gate


async def _serve() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    config = Config()
    config.bind = [network.serve_gate(int(os.environ["GATEWAY_PORT"]))]
    config.certfile, config.keyfile = tls.resolve_tls_material()
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.2
    config.loglevel = "WARNING"
    # Not awaited, because it would wait for every client that keeps its connection.
    serving = asyncio.create_task(serve(gate, config, shutdown_trigger=stopped.wait))
    await asyncio.wait({serving, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    lambda_runtime.reset()
    rds.stop_servers()
    if not stopped.is_set():
        serving.result()
    os._exit(0)  # The event loop would wait for ministack's threads, which never end.


if __name__ == "__main__":
    # Not ministack's main, which would also listen on port 443 as root.
    for part in (
        access,
        cloudformation,
        cloudwatch,
        ec2,
        iam,
        lambda_functions,
        invocations,
        logs,
        network,
        no_op_resources,
        rds,
        refusals,
        secrets_manager,
        drift,  # It wraps what the others have readers for.
        limits,
    ):
        part.install()
    asyncio.run(_serve())
