"""Socket.IO and Engine.IO beneath a server: packets, bounded queues, connections that are cut."""
