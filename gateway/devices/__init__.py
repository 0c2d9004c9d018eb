"""Connected devices: their state, sessions, acks, backpressure, commands, settings, enrolment and accounts."""
