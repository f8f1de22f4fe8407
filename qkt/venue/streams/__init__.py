"""The WebSocket API of the venue: private, public and order-entry connections, and the delivery of frames."""
