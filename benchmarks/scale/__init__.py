"""What a number of concurrent jobs needs: partitions, replicas, database, broker and money. docs/scale.md says how."""
