"""The smoke plug-in: uses a running Boltorezka as people do and says, check by check, what it saw.

It speaks the protocol and the network only; it never imports the server and has its own locked environment.
"""
