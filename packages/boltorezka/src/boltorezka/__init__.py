"""Boltorezka: a self-hosted text and voice rooms server with provable delivery."""

__version__ = "0.1.0"
