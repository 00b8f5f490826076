"""bgpbfd: announces routes by BGP, watches the neighbor by BFD, and takes the routes back the moment it is gone."""

__version__ = "0.1.0"
