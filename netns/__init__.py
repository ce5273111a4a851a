"""Networks of network namespaces, described as data: for the demo and the tests."""
