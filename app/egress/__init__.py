"""The only code of the service that opens a connection to the outside."""
