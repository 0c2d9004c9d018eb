"""What people see of the running gateway: the live feed of changes, its status, and whether it is ready."""
