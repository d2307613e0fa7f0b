"""Jobs for Celery: the files to copy, and the wire format."""

from pathlib import Path

import pytest

import app.jobs
from app.jobs.celery import TASK, is_job
from tests.copying import needs, use_copied

PACKAGE = Path(app.jobs.__file__).parent
PUBLISHER = {"celery", "rabbitmq", "protocol"}

READ = """
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message
from theirs.celery import TASK, CeleryQueue
from theirs.rabbitmq import Job

sent = CeleryQueue("amqp://nowhere/").encode(Job("a document", priority=5, attempt=3))
app = Celery(set_as_current=False)

@app.task(name=TASK)
def task(document_id):
    pass

received = Message(
    body=sent.body,
    headers=sent.headers,
    content_type=sent.content_type,
    content_encoding=sent.content_encoding,
    accept=["application/json"],
)
request = Request(received, app=app, task=task, headers=sent.headers, body=sent.body)
print(request.name, request.args, request.kwargs, request.request_dict["retries"])
print(sent.priority, sent.delivery_mode.name, request.id == sent.correlation_id)
"""


def test_celery_reads_what_is_published(tmp_path: Path) -> None:
    """Celery finds a call of the task, with the document and what was tried before."""
    output = use_copied(tmp_path, PACKAGE, "celery", READ, installed=True)
    assert output == "documents.process ['a document'] {} 2\n5 PERSISTENT True"


CALL = {"task": TASK, "id": "c", "retries": 0}


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        (None, None),
        ({}, {"document_id": "d"}),
        (CALL, 5),
        (CALL, [[], {}, {}]),
        (CALL, [[5], {}, {}]),
        (CALL, [["d"], {"more": 1}, {}]),
        (CALL, [["d"], {}, None]),
        (CALL | {"task": "other"}, [["d"], {}, {}]),
        ({"task": TASK, "retries": 0}, [["d"], {}, {}]),
        (CALL | {"retries": "0"}, [["d"], {}, {}]),
    ],
)
def test_what_is_no_call_is_no_job(headers: object, payload: object) -> None:
    """A job is a call of the task with one string and no more, with what Celery needs of it."""
    assert is_job(CALL, [["d"], {}, {}])
    assert not is_job(headers, payload)


def test_the_worker_is_these_files(tmp_path: Path) -> None:
    """Publishing takes three files, working four more; copied alone they are whole."""
    assert needs(PACKAGE, "celery") == PUBLISHER
    assert needs(PACKAGE, "celery_worker") == PUBLISHER | {"celery_worker", "delivery", "attempt"}
    program = "import theirs.celery_worker as copied; print(copied.TASK)"
    output = use_copied(tmp_path, PACKAGE, "celery_worker", program, installed=True)
    assert output == "documents.process"
