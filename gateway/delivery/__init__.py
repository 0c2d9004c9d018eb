"""From the spool to the database: batches, the results of their writes, and the points that the database refused."""
