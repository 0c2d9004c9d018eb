"""Small durable files: registry, enrolments, command log, device settings, field types, checkpoint, backup."""
