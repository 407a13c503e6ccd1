"""Run cases one by one: case log, resume, worker processes, interrupts."""
