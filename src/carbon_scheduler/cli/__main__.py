"""`python -m carbon_scheduler.cli` is `carbon-scheduler`."""

from __future__ import annotations

from carbon_scheduler.cli.main import main

main()
