"""The shell around the rooms core: it executes effects, batches writes to the store and to the sockets."""

from boltorezka.adapters.realtime.service import Realtime
from boltorezka.adapters.realtime.settings import RealtimeSettings

__all__ = ["Realtime", "RealtimeSettings"]
