"""qkt: an execution layer for Bybit V5 that knows what the venue holds, or says so."""
