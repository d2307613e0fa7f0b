"""Celery workers for jobs on RabbitMQ.

    run_celery_worker("amqp://localhost/", open_handler, concurrency=4)

One process, `concurrency` jobs at once; run several for more. Celery consumes in the main thread
and calls the task in its pool of threads; each call waits for its job, which runs on one event
loop beside them. Threads, as handlers are asynchronous: each process of a pool would open the
handler anew, and outlive a worker that is killed. `deliver` decides what becomes of a job, not
Celery's retry, so it is the same for Taskiq. Of Celery's consumer there is only what takes jobs:
no remote control, gossip, mingle or events, hence no transient queues, and no global prefetch.

Guarantees: a message is acknowledged when its job is done or handed on, and no more are fetched
than run, so a worker that is killed loses none. What is no job goes to the dead letters; so does
a job that can be neither done nor handed on. It waits for a broker that is not there, and goes on
by itself when it is back. On SIGTERM and SIGINT it fetches nothing more, gives running jobs
`drain_timeout` seconds, gives the rest back, and returns.

Needs: celery, aio-pika, anyio, `celery`, `delivery`, `rabbitmq`, `attempt`, `protocol`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError, Future, wait
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from celery import Celery, Task
from celery.apps.worker import (  # type: ignore[attr-defined]
    Worker,
    install_worker_term_handler,
)
from celery.concurrency.thread import TaskPool
from celery.exceptions import Reject
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]
from celery.worker import WorkController
from celery.worker.consumer import Connection, Consumer, Tasks
from celery.worker.consumer.consumer import Evloop
from kombu import Message, Queue
from kombu.asynchronous.hub import Hub

from .attempt import Backoff
from .celery import TASK, CeleryQueue, is_job
from .delivery import DRAIN_TIMEOUT, OpenHandler, deliver
from .rabbitmq import HEARTBEAT, QUEUE, Job, queue_arguments

BROKER_TIMEOUT = 3.0
"""Seconds in which the broker is to answer each of the few requests of a worker that ends."""
SIGNAL_CHECK = 0.5
"""Seconds until Celery sees that a signal has come."""

_Do = Callable[[Job], Awaitable[None]]


def run_celery_worker(
    url: str,
    open_handler: OpenHandler,
    *,
    concurrency: int = 2,
    drain_timeout: float = DRAIN_TIMEOUT,
    queue: str = QUEUE,
    backoff: Backoff = Backoff(),  # noqa: B008 -- immutable
) -> None:
    """Work until SIGTERM or SIGINT. Raises what opening the handler raises."""

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[_Do]:
        async with open_handler() as handler, CeleryQueue(url, queue=queue) as jobs:
            yield partial(deliver, handler, jobs, backoff=backoff)

    with (
        start_blocking_portal(name="jobs") as portal,
        portal.wrap_async_context_manager(open_desk()) as do,
    ):
        running = _Running(portal, do, drain_timeout)
        app = _app(url, queue, running, heartbeat=max(HEARTBEAT, 2 * drain_timeout))
        worker = _Worker(app=app, concurrency=concurrency, pool=running.pool(), quiet=True)
        worker.start()
    if worker.exitcode:
        raise SystemExit(worker.exitcode)


def _app(url: str, queue: str, running: "_Running", *, heartbeat: float) -> Celery:
    app = Celery("jobs", set_as_current=False)
    app.conf.update(
        broker_url=url,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=heartbeat,  # no thread sends any while the worker drains
        task_queues=[Queue(queue, routing_key=queue, queue_arguments=queue_arguments(queue))],
        task_ignore_result=True,
        worker_consumer=_Consumer,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
    )

    @app.task(name=TASK, bind=True, acks_late=True, acks_on_failure_or_timeout=False)
    def process(task: Task[Any, None], document_id: str) -> None:
        delivery = task.request.delivery_info
        priority = delivery["priority"] if delivery else None
        running.finish(Job(document_id, priority or 0, task.request.retries + 1))

    return app


class _Running:
    """The jobs that run on the event loop, a thread of Celery's waiting for each."""

    def __init__(self, portal: BlockingPortal, do: _Do, drain_timeout: float) -> None:
        self._portal = portal
        self._do = do
        self._drain_timeout = drain_timeout
        self._jobs: set[Future[None]] = set()
        self._is_over = False

    def finish(self, job: Job) -> None:
        """Do a job to its end; or have it given back, if it takes too long to wait for."""
        doing = self._portal.start_task_soon(self._do, job)
        self._jobs.add(doing)
        try:
            if self._is_over:
                doing.cancel()
            doing.result()
        except CancelledError:
            raise Reject("the worker ends", requeue=True) from None
        finally:
            self._jobs.remove(doing)

    def drain(self) -> None:
        """Wait for the jobs that run, as long as may be, then cancel them."""
        wait(list(self._jobs), self._drain_timeout)
        self._is_over = True
        for job in list(self._jobs):
            job.cancel()

    def pool(self) -> type[TaskPool]:
        """Return a pool of threads that drains before it stops."""
        running = self

        class Pool(TaskPool):
            def on_stop(self) -> None:
                running.drain()
                super().on_stop()

        return Pool


class _Worker(Worker):
    """Ends in good order on both signals, and leaves logging to the program that it runs in."""

    def install_platform_tweaks(self, worker: WorkController) -> None:
        for name in ("SIGTERM", "SIGINT"):
            install_worker_term_handler(worker, sig=name)

    def setup_logging(self, colorize: bool | None = None) -> None:
        pass


class _Tasks(Tasks):
    """Consumes, with nothing before it but the connection."""

    requires = (Connection,)

    def qos_global(self, _: object) -> bool:
        return False

    def stop(self, consumer: Consumer) -> None:
        bound_open_broker_sockets(consumer.connection, BROKER_TIMEOUT)  # it may be silent
        super().stop(consumer)


class _Consumer(Consumer):
    """Takes jobs, and does nothing else."""

    event_dispatcher = None

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        default_steps = (Connection, _Tasks, Evloop)

    def create_task_handler(self, *_: object) -> Callable[[Message], None]:
        """Look at a message before Celery does, which ends over some that are no jobs."""
        take = super().create_task_handler()

        def take_job(message: Message) -> None:
            try:
                is_one = is_job(message.headers, message.payload)
            except Exception as error:  # noqa: BLE001 -- whatever reading it may raise
                self.on_decode_error(message, error)
            else:
                take(message) if is_one else self.on_unknown_message(None, message)

        return take_job

    def on_decode_error(self, message: Message, exc: Exception) -> None:  # noqa: ARG002
        """Reject it, so that it is a dead letter; Celery would acknowledge it."""
        self.on_unknown_message(None, message)

    def register_with_event_loop(self, hub: Hub) -> None:
        super().register_with_event_loop(hub)
        hub.call_repeatedly(SIGNAL_CHECK, lambda: None)  # a signal does not wake it
