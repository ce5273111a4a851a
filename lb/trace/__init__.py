"""`lbctl trace`: what the programs did with packets, one by one."""
