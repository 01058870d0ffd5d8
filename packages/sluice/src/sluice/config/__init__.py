"""host.toml and sluice.toml, read strictly, and the one place that puts an environment's adapters together.

Every error names the file and the key's path; an unknown key is refused with the nearest known one.
"""

from sluice.config.environment import Environment, open_environment
from sluice.config.reading import DEFAULT_HOST_CONFIG, load_host, load_service
from sluice.hosts.examples import EXAMPLE_HOST, EXAMPLE_SERVICE

__all__ = [
    "DEFAULT_HOST_CONFIG",
    "EXAMPLE_HOST",
    "EXAMPLE_SERVICE",
    "Environment",
    "load_host",
    "load_service",
    "open_environment",
]
