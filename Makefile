.PHONY: test test-toolkits

test:  ## everything that needs no environment of its own
	python -m pytest

test-toolkits:  ## builds the environments of the VOT toolkit and Datumaro from PyPI (once), then runs their tests
	python tests/toolkits/environments.py
	python -m pytest tests/toolkits tests/formats -rs
