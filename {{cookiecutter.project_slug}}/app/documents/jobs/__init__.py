"""Documents as jobs: a queue on RabbitMQ announces them to workers."""
