"""Tests of the providers: adapters over real sockets, deadlines and failover in virtual time."""
