"""How a release runs. `process`: plain processes kept alive by a supervisor of our own."""
