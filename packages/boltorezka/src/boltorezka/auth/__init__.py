"""Who may come in: the pure rules of sessions, tickets and return addresses."""
