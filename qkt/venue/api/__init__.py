"""The REST API of the venue without sockets: from a signed request to an envelope."""
