"""Socket.IO and Engine.IO beneath a server: packets, queues with bounds, connections that are cut. Imports `ws.values`."""
