"""The databases readings can go to, one file each; all implement `gateway.delivery.sink.Sink`."""
