"""From the spool to the database: batches, what the database answered, and the points it would not have."""
