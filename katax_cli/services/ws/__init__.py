"""Socket.IO: servers, the admin namespace behind `katax ws`, a client, and what joins several servers."""
