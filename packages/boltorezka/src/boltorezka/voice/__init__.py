"""Voice without I/O: seats, engines, and the credentials of relays."""
