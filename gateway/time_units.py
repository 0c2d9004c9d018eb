"""How many nanoseconds a unit of time has: every moment and time span inside the gateway is a whole number of them."""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NS_PER_HOUR = 3600 * NS_PER_S
NS_PER_DAY = 24 * NS_PER_HOUR
