"""State made again from the log of events: what that may be said of (`tables`), the events through the real handlers
(`replay`), what came out beside what stands (`states`), and `sskai rebuild` (`command`)."""
