"""What implements the ports: SQLite, sockets, HTTP, the SSO broker, tokens, metrics, the system."""
