"""bgpbfdctl: the command line that talks to a running bgpbfd over its JSON-RPC API."""
