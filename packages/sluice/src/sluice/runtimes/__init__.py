"""How a release runs. `process`: kept alive by a supervisor of our own; `compose`: a Compose project for each slot."""
