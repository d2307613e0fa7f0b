"""The processes under measurement: the fake provider, the relay, the service."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent
SCRATCH = TEMPLATE / ".bench"
START_TIMEOUT = 60.0
SUPPORTED = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Running:
    """A process that listens on `port`."""

    process: psutil.Process
    port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time it has taken so far, in user and kernel mode."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def rendered_service() -> Path:
    """Render the defaults and install them; return the project's directory."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    project = Path(
        cookiecutter(
            str(TEMPLATE),
            no_input=True,
            overwrite_if_exists=True,
            extra_context={"python_version": running if running in SUPPORTED else SUPPORTED[-1]},
            output_dir=str(SCRATCH),
            default_config={"replay_dir": str(SCRATCH / "replay")},
        )
    )
    environment = {**os.environ, "UV_PYTHON": sys.executable}
    environment.pop("VIRTUAL_ENV", None)
    uv = os.environ.get("UV", "uv")
    subprocess.run([uv, "sync", "--quiet"], cwd=project, env=environment, check=True)
    return project


@contextlib.contextmanager
def running(python: Path, *arguments: str, cwd: Path, **environment: str) -> Iterator[Running]:
    """Run `python -m arguments...`, with PORT in each replaced by a free one, until left."""
    port = _free_port()
    command = [str(python), "-m", *(argument.replace("PORT", str(port)) for argument in arguments)]
    env = {**os.environ, **environment, "PORT": str(port)}
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(process, port)
            yield Running(psutil.Process(process.pid), port)
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")
