"""Adapters to the benchmark toolkits of the field. Each imports its toolkit and nothing else imports them."""
