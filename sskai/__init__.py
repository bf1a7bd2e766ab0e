"""The chassis every SSKAI service stands on, the client and the command line. Knows no service's domain."""
