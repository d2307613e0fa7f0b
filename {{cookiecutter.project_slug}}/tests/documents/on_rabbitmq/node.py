"""A RabbitMQ node for the tests, started once a run; a test may stop, stall and restart it.

It has a directory and free ports of 127.0.0.1 to itself, and no plugins. Any user can run it.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

LOCALHOST = "127.0.0.1"
START_TIMEOUT = 120.0
"""Seconds; it takes 3 on an idle machine."""
STOP_TIMEOUT = 60.0
PORTS = range(20_000, 32_000)
"""Below those of outgoing connections, or one could take the port while the node restarts."""
SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server"))
"""Debian's own script first: the one on its PATH changes to another user."""
NOT_INSTALLED = "RabbitMQ is not installed (apt-get install rabbitmq-server)"


class RabbitMQNode:
    """A node that can be stopped, stalled and started again; its durable queues remain."""

    def __init__(self, script: str, folder: Path) -> None:
        self._script = script
        self._folder = folder
        port, distribution_port, epmd_port = _free_ports(3)
        self.url = f"amqp://guest:guest@{LOCALHOST}:{port}/"
        for empty in ("environment.conf", "node.conf", "plugins"):
            (folder / empty).touch()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": LOCALHOST,
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": f"test{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOCALHOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "node.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "1",  # or the node would be a child of a shell
        }

    @contextmanager
    def running(self) -> Iterator["RabbitMQNode"]:
        """Run the node, and the name server that Erlang needs, until the block ends."""
        with ExitStack() as stack:
            stack.callback(_kill, self._spawn("epmd"))
            self.start()
            stack.callback(lambda: _kill(self._process))
            yield self

    def start(self) -> None:
        """Start the node and wait until it serves."""
        self._process = self._spawn(self._script)
        deadline = time.monotonic() + START_TIMEOUT
        while "Server startup complete" not in (output := self._output(self._script).read_text()):
            assert self._process.poll() is None, f"RabbitMQ ended: {output}"
            assert time.monotonic() < deadline, f"RabbitMQ did not start: {output}"
            time.sleep(0.05)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Shut the node down until the block ends."""
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT)
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Stop the node's threads until the block ends; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all of them have stopped
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _spawn(self, program: str) -> subprocess.Popen[bytes]:
        with self._output(program).open("wb") as output:
            return subprocess.Popen(  # noqa: S603 -- the installed RabbitMQ
                [program],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _output(self, program: str) -> Path:
        return self._folder / f"{Path(program).name}.output"


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT)


def _free_ports(number: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < number:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex((LOCALHOST, port)) != 0:
                ports.append(port)
    return ports


def _installed() -> str:
    for script in SCRIPTS:
        if script is not None and Path(script).exists():
            return script
    if "CI" in os.environ:
        pytest.fail(NOT_INSTALLED)
    pytest.skip(NOT_INSTALLED)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """Run a node; a test that stops it starts it again."""
    node = RabbitMQNode(_installed(), tmp_path_factory.mktemp("rabbitmq"))
    with node.running():
        yield node
