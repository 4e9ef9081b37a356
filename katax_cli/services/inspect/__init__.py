"""What a server says of its sessions: what they do, who waits for whom, and how to end them."""
