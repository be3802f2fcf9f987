"""How the workbench compares with the textbook versions of the same job. `make bench` runs it."""
