# Two commands on a fresh machine: `make demo` and `make test`. Each sets everything up first.
PYTHON ?= python3
RUN = .venv/bin
stamp = .venv/.installed-$(shell sha256sum pyproject.toml constraints.txt | sha256sum | cut -c1-16)

.PHONY: demo test lint docs install clean

demo: $(stamp)
	$(RUN)/blemish demo --out demo --force

test: lint
	$(RUN)/python -m pytest tests --numprocesses auto --dist worksteal

lint: $(stamp)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

docs: $(stamp)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

install: $(stamp)

$(stamp):
	$(PYTHON) -m venv .venv
	$(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	rm -f .venv/.installed-*
	touch $@

clean:
	rm -rf .venv demo site
