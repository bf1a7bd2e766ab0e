"""The embedded stack: Apache Kafka, PostgreSQL, an S3 server and a simulated spot cloud as child processes, supervised.

Every part is the real thing behind its real protocol, so what passes here passes in production.
"""
