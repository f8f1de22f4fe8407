"""The REST face of the venue, without sockets: from a signed request to an envelope."""
