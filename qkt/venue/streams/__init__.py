"""The WebSocket face of the venue: private sessions, public sessions, and the pump that brings frames to them."""
