"""Work outside of the request: in the process, or by workers on RabbitMQ."""
