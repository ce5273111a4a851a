"""The demo's network: servers, routers and what runs on them."""
