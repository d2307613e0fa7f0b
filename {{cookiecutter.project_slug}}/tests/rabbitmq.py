"""A real RabbitMQ node of the tests' own: started once a run, told to stop, to stall, to come back.

It lives in a directory of its own, listens on free ports of 127.0.0.1 only, has no plugins, and
takes its epmd with it when it ends; root can run it as well as anybody. Each test takes queues of
its own, by their name.

With BROKER_URL_FOR_TESTS set, that broker is used instead; tests that would harm it are skipped.
To use it, a conftest imports the fixtures `broker`, `broker_url` and `broker_node`.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LOCALHOST = "127.0.0.1"
START_TIMEOUT = 120.0
"""Seconds; it takes 3 on an idle machine."""
STOP_TIMEOUT = 60.0
PORTS = range(20_000, 32_000)
"""Below those that a system hands out to outgoing connections."""
SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server"))
"""Debian's own script first: the one on its PATH changes to another user."""
NOT_INSTALLED = "RabbitMQ is not installed (apt-get install rabbitmq-server)"


class RabbitMQNode:
    """A node that can be stopped, killed, stalled and started again; its queues remain."""

    def __init__(self, script: Path, folder: Path) -> None:
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
            "RUNNING_UNDER_SYSTEMD": "1",  # so that no shell stands between us and the node
        }

    @contextmanager
    def running(self) -> Iterator["RabbitMQNode"]:
        """Run it, and the name server that Erlang wants, until the block ends."""
        epmd = self._spawn("epmd")
        try:
            self.start()
            yield self
        finally:
            self.kill()
            _kill(epmd)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = self._spawn(str(self._script))
        _wait_until(self._serves, START_TIMEOUT)

    def stop(self) -> None:
        """Let it end in good order."""
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End it at once, stalled or not."""
        _kill(self._process)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Let it hear and say nothing, with its connections open, until the block ends."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads have stopped
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def control(self, *command: str) -> None:
        """Run rabbitmqctl."""
        subprocess.run(  # noqa: S603 -- of the installation that is tested with
            [self._script.with_name("rabbitmqctl"), *command],
            env=self._environment,
            capture_output=True,
            timeout=START_TIMEOUT,
            check=True,
        )

    def _spawn(self, program: str) -> subprocess.Popen[bytes]:
        with self._output(program).open("wb") as output:
            return subprocess.Popen(  # noqa: S603 -- of the installation that is tested with
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

    def _serves(self) -> bool:
        output = self._output(str(self._script)).read_text("utf-8", "replace")
        if self._process.poll() is not None:
            raise AssertionError(f"RabbitMQ ended: {output}")
        return "Server startup complete" in output


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT)


def _wait_until(condition: Callable[[], bool], timeout: float) -> None:
    ends_at = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends_at, f"not within {timeout:g} s"
        time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < number:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex((LOCALHOST, port)) != 0:
                ports.append(port)
    return ports


def _installed() -> Path:
    for script in SCRIPTS:
        if script is not None and Path(script).exists():
            return Path(script)
    if "CI" in os.environ:
        pytest.fail(NOT_INSTALLED)
    pytest.skip(NOT_INSTALLED)


@pytest.fixture(scope="session")
def broker() -> Iterator[RabbitMQNode | str]:
    """Return this run's node, or the URL of the broker that was given."""
    if url := os.environ.get("BROKER_URL_FOR_TESTS"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    try:
        with RabbitMQNode(_installed(), folder).running() as node:
            yield node
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def broker_url(broker: RabbitMQNode | str) -> str:
    """Return the URL of a broker that runs."""
    return broker if isinstance(broker, str) else broker.url


@pytest.fixture
def broker_node(broker: RabbitMQNode | str) -> RabbitMQNode:
    """Return a node that the test may stop, kill and stall, if it starts it again."""
    if isinstance(broker, str):
        pytest.skip("this would harm the broker of BROKER_URL_FOR_TESTS")
    return broker
