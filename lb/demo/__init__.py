"""The demo: real servers, a real router, real traffic, and promises that are checked."""
