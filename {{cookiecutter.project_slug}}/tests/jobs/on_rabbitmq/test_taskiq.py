"""Jobs for Taskiq: the files to copy, and the wire format."""

import json
from pathlib import Path

import pytest

import app.jobs
from app.jobs.rabbitmq import Job
from app.jobs.taskiq import TaskiqQueue, decode
from tests.copying import needs, use_copied

PACKAGE = Path(app.jobs.__file__).parent
PUBLISHER = {"taskiq", "rabbitmq", "protocol"}

READ = """
from taskiq import InMemoryBroker
from theirs.rabbitmq import Job
from theirs.taskiq import TaskiqQueue

sent = TaskiqQueue("amqp://nowhere/").encode(Job("a document", priority=5, attempt=3))
received = InMemoryBroker().formatter.loads(sent.body)
received.parse_labels()
print(received.task_name, received.args, received.kwargs, received.labels)
print(sent.priority, sent.delivery_mode.name)
"""


def test_taskiq_reads_what_is_published(tmp_path: Path) -> None:
    """Taskiq finds a call of the task, with the document and what was tried before."""
    output = use_copied(tmp_path, PACKAGE, "taskiq", READ, installed=True)
    labels = {"priority": 5, "attempt": 3}
    assert output == f"documents.process ['a document'] {{}} {labels}\n5 PERSISTENT"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task_id", None),
        ("task_name", "other"),
        ("args", []),
        ("args", [5]),
        ("kwargs", {"more": 1}),
        ("labels", {"priority": 0}),
        ("labels", {"priority": 0, "attempt": "1"}),
        ("labels", {"priority": 0, "attempt": 1, "ack_type": "when_received"}),
        ("labels_types", {"attempt": 99}),
    ],
)
def test_what_is_published_elsewhere_is_no_job(field: str, value: object) -> None:
    """A job is what is published here, with no label more."""
    job = Job("d", priority=5, attempt=3)
    call = json.loads(TaskiqQueue("amqp://nowhere/").encode(job).body)
    assert decode(json.dumps(call).encode()) == job
    with pytest.raises(ValueError, match=r"not a call|validation error"):
        decode(json.dumps(call | {field: value}).encode())


def test_the_worker_is_these_files(tmp_path: Path) -> None:
    """Publishing takes three files, working four more; copied alone they are whole."""
    assert needs(PACKAGE, "taskiq") == PUBLISHER
    assert needs(PACKAGE, "taskiq_worker") == PUBLISHER | {"taskiq_worker", "delivery", "attempt"}
    program = "import theirs.taskiq_worker as copied; print(copied.TASK)"
    output = use_copied(tmp_path, PACKAGE, "taskiq_worker", program, installed=True)
    assert output == "documents.process"
