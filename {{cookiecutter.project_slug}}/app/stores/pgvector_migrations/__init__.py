"""How the tables of a PostgreSQL store came to be, step by step."""
